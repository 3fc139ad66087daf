//! The private servers, really started: each test has its own, so they are few and each tells a whole story.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use super::*;

use std::io::{Read, Write};
use std::net::TcpStream;

/// What Redis says to one command, as text.
fn redis_says(services: &LocalServices, command: &str) -> String {
    let (password, address) = services
        .redis_url
        .trim_start_matches("redis://default:")
        .trim_end_matches("/0")
        .split_once('@')
        .unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "AUTH {password}\r\n{command}\r\nQUIT\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
        .strip_prefix("+OK\r\n")
        .and_then(|answer| answer.strip_suffix("+OK\r\n"))
        .unwrap_or(&answer)
        .to_owned()
}

fn options(dir: &Path, durability: Durability) -> Options {
    Options {
        dir: dir.join("services"),
        durability,
        fresh: false,
        env: ServerEnv::default(),
    }
}

// F60
#[test]
fn durable_servers_keep_their_data_and_their_urls() {
    let dir = tempfile::tempdir().unwrap();
    let services = LocalServices::start_blocking(&options(dir.path(), Durability::Full)).unwrap();
    assert_eq!(
        redis_says(&services, "CONFIG GET maxmemory-policy"),
        "*2\r\n$16\r\nmaxmemory-policy\r\n$10\r\nnoeviction\r\n"
    );
    redis_says(&services, "SET kept 1");
    services.stop_redis().unwrap();
    assert_eq!(services.pids().redis, None);
    services.start_redis().unwrap();
    assert_eq!(redis_says(&services, "GET kept"), "$1\r\n1\r\n");

    let (database_url, redis_url) = (services.database_url.clone(), services.redis_url.clone());
    services.stop_blocking().unwrap();
    let again = LocalServices::start_blocking(&options(dir.path(), Durability::Full)).unwrap();
    assert_eq!(
        (again.database_url.as_str(), again.redis_url.as_str()),
        (database_url.as_str(), redis_url.as_str())
    );
    assert_eq!(redis_says(&again, "GET kept"), "$1\r\n1\r\n");
    again.stop_blocking().unwrap();
}

#[test]
fn a_postgres_comes_back_however_it_went_down() {
    let dir = tempfile::tempdir().unwrap();
    let services = LocalServices::start_blocking(&options(dir.path(), Durability::None)).unwrap();
    for how in [
        PostgresStop::Immediate,
        PostgresStop::Kill9,
        PostgresStop::Fast,
    ] {
        let before = services.pids();
        services.restart_postgres(how).unwrap();
        assert!(before.postgres != services.pids().postgres, "{how:?}");
        assert_eq!(before.redis, services.pids().redis, "{how:?}");
    }
}

#[test]
fn running_servers_are_found_by_where_they_work_and_by_how_they_were_called() {
    let dir = tempfile::tempdir().unwrap();
    let services = LocalServices::start_blocking(&options(dir.path(), Durability::None)).unwrap();
    let (home, pids) = (services.dir().unwrap(), services.pids());
    for (name, pid) in [("postgres", pids.postgres), ("redis", pids.redis)] {
        let pid = rustix::process::Pid::from_raw(pid.unwrap() as i32).unwrap();
        assert!(
            leftovers::by_command_line(&home.join(name)).contains(&pid),
            "{name}"
        );
        assert!(
            !Path::new("/proc/self").exists()
                || leftovers::by_working_directory(&home.join(name)).contains(&pid),
            "{name}"
        );
    }
}

#[test]
fn a_killed_redis_without_durability_comes_back_empty() {
    let dir = tempfile::tempdir().unwrap();
    let given = GivenUrls {
        database_url: Some("postgres://somebody@else/db".into()),
        redis_url: None,
    };
    let services =
        LocalServices::given_or_start_blocking(given, &options(dir.path(), Durability::None))
            .unwrap();
    redis_says(&services, "SET lost 1");
    services.kill9_redis().unwrap();
    services.start_redis().unwrap();
    assert_eq!(redis_says(&services, "GET lost"), "$-1\r\n");
    assert!(
        services.restart_postgres(PostgresStop::Fast).is_err(),
        "a given Postgres is not ours to stop"
    );
    assert_eq!(services.pids().postgres, None);
}

#[test]
fn a_server_that_dies_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let given = GivenUrls {
        database_url: Some("postgres://somebody@else/db".into()),
        redis_url: None,
    };
    let services =
        LocalServices::given_or_start_blocking(given, &options(dir.path(), Durability::None))
            .unwrap();
    services.check().unwrap();
    let redis = services.pids().redis.unwrap();
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(redis as i32).unwrap(),
        rustix::process::Signal::KILL,
    )
    .unwrap();
    let error = wait::until(Duration::from_secs(10), || Ok(services.check().err()))
        .unwrap()
        .unwrap();
    assert!(
        error.to_string().contains("Redis ended by itself"),
        "{error}"
    );
}

#[test]
fn a_directory_has_one_owner_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let given = || GivenUrls {
        database_url: Some("postgres://somebody@else/db".into()),
        redis_url: None,
    };
    let services =
        LocalServices::given_or_start_blocking(given(), &options(dir.path(), Durability::None))
            .unwrap();
    let error =
        LocalServices::given_or_start_blocking(given(), &options(dir.path(), Durability::None))
            .unwrap_err();
    assert!(error.to_string().contains("another process"), "{error}");
    assert_eq!(redis_says(&services, "PING"), "+PONG\r\n");
}

#[test]
fn given_urls_start_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let given = GivenUrls {
        database_url: Some("postgres://a@b/c".into()),
        redis_url: Some("rediss://d".into()),
    };
    let services =
        LocalServices::given_or_start_blocking(given, &options(dir.path(), Durability::Full))
            .unwrap();
    assert_eq!(services.database_url, "postgres://a@b/c");
    assert!(services.dir().is_none() && !dir.path().join("services").exists());
}

#[test]
fn a_url_of_the_wrong_kind_is_refused_without_its_password() {
    let dir = tempfile::tempdir().unwrap();
    let given = GivenUrls {
        database_url: Some("mysql://root:hunter2@db/x".into()),
        redis_url: None,
    };
    let error =
        LocalServices::given_or_start_blocking(given, &options(dir.path(), Durability::Full))
            .unwrap_err()
            .to_string();
    assert!(
        error.contains("mysql://") && error.contains("postgres://") && !error.contains("hunter2"),
        "{error}"
    );
}
