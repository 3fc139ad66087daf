//! What an operator sets: addresses, passwords, poolers, tokens (X26, X27, X28, X68).

use std::{collections::BTreeMap, process::Output};

use millstream_common::config::Secret;
use millstream_tests::{Lab, Process, eventually, process::run};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, TcpStream},
};

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim().to_owned()
}

pub(crate) fn said(output: &Output) -> String {
    format!("{}\n{}", text(&output.stdout), text(&output.stderr))
}

/// The checks of `millstream doctor` by their names.
pub(crate) async fn doctor(lab: &Lab) -> BTreeMap<String, Vec<Value>> {
    let output = run(lab, &["--json", "doctor"]).await;
    let mut checks: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for line in text(&output.stdout).lines() {
        let check: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        checks
            .entry(check["check"].as_str().unwrap().to_owned())
            .or_default()
            .push(check);
    }
    checks
}

/// Host and port of a URL, as they stand in it.
fn place(url: &str) -> String {
    let (_, rest) = url.split_once("://").unwrap();
    rest.rsplit('@')
        .next()
        .unwrap()
        .split('/')
        .next()
        .unwrap()
        .to_owned()
}

fn moved(url: &Secret, to: &str) -> Secret {
    Secret::new(url.expose().replace(&place(url.expose()), to))
}

/// Passes connections on from another address.
async fn listen_for(server: String, address: &str) -> String {
    let listener = TcpListener::bind(address)
        .await
        .expect("this machine has an IPv6 loopback");
    let told = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            let mut far = TcpStream::connect(&server).await.unwrap();
            tokio::spawn(async move { copy_bidirectional(&mut near, &mut far).await });
        }
    });
    told
}

#[tokio::test]
async fn x26_servers_may_be_named_by_ipv6_addresses() {
    let mut lab = Lab::new().await;
    let postgres = listen_for(place(lab.config.database.url.expose()), "[::1]:0").await;
    let redis = listen_for(place(lab.config.redis.url.expose()), "[::1]:0").await;
    lab.config.database.url = moved(&lab.config.database.url, &postgres);
    lab.config.redis.url = moved(&lab.config.redis.url, &redis);
    let checks = doctor(&lab).await;
    for (name, place) in [("postgres", &postgres), ("redis", &redis)] {
        assert!(place.starts_with("[::1]:"), "{place}");
        let check = &checks[name][0];
        assert!(
            check["level"] == "ok" && check["detail"].as_str().unwrap().contains(place.as_str()),
            "{check}"
        );
    }
    let _worker = lab.worker().await;
    let waited = run(&lab, &["enqueue", "echo", "--wait"]).await;
    assert!(waited.status.success(), "{}", said(&waited));
}

#[tokio::test]
async fn x27_an_unencoded_password_is_hinted_at_and_not_printed() {
    let mut lab = Lab::new().await;
    let (database, redis) = (
        lab.config.database.url.clone(),
        lab.config.redis.url.clone(),
    );
    let commands: [&[&str]; 5] = [
        &["jobs", "list"],
        &["enqueue", "echo"],
        &["worker"],
        &["api", "--listen", "127.0.0.1:0"],
        &["doctor"],
    ];
    for (nth, character) in ["@", "/", "?", "#", "1/"].into_iter().enumerate() {
        let password = format!("sesame{character}tahini");
        let (command, second) = (commands[nth % 5], commands[(nth + 2) % 5]);
        lab.config.database.url = Secret::new(format!("postgres://u:{password}@127.0.0.1:1/x"));
        refused(&run(&lab, command).await, "DATABASE_URL");
        refused(&run(&lab, second).await, "DATABASE_URL");
        lab.config.database.url = database.clone();
        lab.config.redis.url = Secret::new(format!("redis://u:{password}@127.0.0.1:1/0"));
        refused(&run(&lab, &["worker"]).await, "REDIS_URL");
        refused(&run(&lab, &["doctor"]).await, "REDIS_URL");
        lab.config.redis.url = redis.clone();
    }
    // A parameter that nobody knows is named, its value is not.
    lab.config.database.url = Secret::new(format!("{}?pasword=sesame", database.expose()));
    let listed = run(&lab, &["jobs", "list"]).await;
    assert!(
        listed.status.success()
            && said(&listed).contains("pasword")
            && !said(&listed).contains("sesame"),
        "{}",
        said(&listed)
    );
}

fn refused(output: &Output, name: &str) {
    let told = said(output);
    assert!(
        told.contains(name) && told.contains("percent-encoded") && told.contains("%40"),
        "{told}"
    );
    assert!(
        !told.contains("sesame") && !told.contains("tahini"),
        "{told}"
    );
    assert!(
        matches!(output.status.code(), Some(1 | 2)),
        "{:?}: {told}",
        output.status
    );
}

/// The settings with which a client begins its session.
async fn startup(client: &mut TcpStream) -> std::io::Result<Vec<(String, String)>> {
    loop {
        let length = client.read_u32().await? as usize - 8;
        let code = client.read_u32().await?;
        let mut rest = vec![0; length];
        client.read_exact(&mut rest).await?;
        // Version 3.0 of the protocol; before it clients ask for encryption.
        if code == 196_608 {
            let parts: Vec<_> = rest
                .split(|byte| *byte == 0)
                .map(|part| String::from_utf8_lossy(part).into_owned())
                .collect();
            return Ok(parts
                .chunks(2)
                .filter(|pair| pair.len() == 2 && !pair[0].is_empty())
                .map(|pair| (pair[0].clone(), pair[1].clone()))
                .collect());
        }
        client.write_all(b"N").await?;
    }
}

/// A pooler that refuses `options`, in the words of `PgBouncer`.
async fn refusing_pooler() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let told = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            if startup(&mut client)
                .await
                .is_ok_and(|settings| settings.iter().any(|(name, _)| name == "options"))
            {
                let fields = b"SFATAL\0VFATAL\0C08P01\0Munsupported startup parameter: options\0\0";
                client.write_all(b"E").await.unwrap();
                client.write_u32(fields.len() as u32 + 4).await.unwrap();
                client.write_all(fields).await.unwrap();
            }
        }
    });
    told
}

/// A pooler that was told to ignore `options`.
async fn ignoring_pooler(server: String) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let told = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let server = server.clone();
            tokio::spawn(async move {
                let settings = startup(&mut client).await?;
                let mut message = 196_608_u32.to_be_bytes().to_vec();
                for (name, value) in settings.iter().filter(|(name, _)| name != "options") {
                    message.extend([name.as_bytes(), b"\0", value.as_bytes(), b"\0"].concat());
                }
                message.push(0);
                let mut far = TcpStream::connect(&server).await?;
                far.write_u32(message.len() as u32 + 4).await?;
                far.write_all(&message).await?;
                copy_bidirectional(&mut client, &mut far).await
            });
        }
    });
    told
}

#[tokio::test]
async fn x28_what_a_pooler_refuses_is_said_with_what_to_set() {
    let mut lab = Lab::new().await;
    let pooler = refusing_pooler().await;
    lab.config.database.url = moved(&lab.config.database.url, &pooler);
    for command in [&["jobs", "list"][..], &["worker"], &["doctor"]] {
        let told = said(&run(&lab, command).await);
        for word in [
            "unsupported startup parameter: options",
            "ignore_startup_parameters",
            "ALTER ROLE",
            &pooler,
        ] {
            assert!(told.contains(word), "{word}: {told}");
        }
        assert!(!told.contains("until it has started"), "{told}");
    }
}

#[tokio::test]
async fn x28_doctor_sees_that_a_pooler_has_lost_the_limits_of_sessions() {
    let mut lab = Lab::new().await;
    assert_eq!(doctor(&lab).await["session limits"][0]["level"], "ok");
    let pooler = ignoring_pooler(place(lab.config.database.url.expose())).await;
    lab.config.database.url = moved(&lab.config.database.url, &pooler);
    let check = &doctor(&lab).await["session limits"][0];
    assert_eq!(check["level"], "warn", "{check}");
    assert!(
        check["detail"]
            .as_str()
            .unwrap()
            .contains("statement_timeout 0 ms"),
        "{check}"
    );
    assert!(
        check["advice"].as_str().unwrap().contains("ALTER ROLE"),
        "{check}"
    );
}

#[tokio::test]
async fn x68_a_token_of_digits_is_a_token() {
    let lab = Lab::new().await;
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let address = format!("127.0.0.1:{port}");
    let token = "01234567890123456789".to_owned();
    let _api = Process::start_in(
        &lab.config,
        &["api", "--listen", &address],
        &[("MILLSTREAM_API__TOKEN".into(), token.clone())],
    );
    let client = reqwest::Client::new();
    let get = |token: &str| {
        client
            .get(format!("http://{address}/v1/queues"))
            .bearer_auth(token.to_owned())
            .send()
    };
    eventually("the API answers", async || get(&token).await.ok()).await;
    assert_eq!(get(&token).await.unwrap().status(), 200);
    assert_eq!(
        get("1234567890123456789").await.unwrap().status(),
        401,
        "the zero in front is a part of it"
    );
    let file = lab.folder().join("settings.toml");
    std::fs::write(&file, "[api]\ntoken = 0123456789").unwrap();
    let told = said(&run(&lab, &["--config", file.to_str().unwrap(), "jobs", "list"]).await);
    assert!(
        told.contains("line 2") && !told.contains("0123456789"),
        "{told}"
    );
}
