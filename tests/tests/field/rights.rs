//! A Redis that lacks one right or command, or refuses the login: work goes on, and what is missing is named.

use std::sync::Arc;

use millstream_common::{
    config::Secret,
    stream::{link::Redis, probe::in_words, wire},
};
use millstream_local::Durability;
use millstream_tests::{Lab, Served, ask::send, eventually, faults::rights, process::run};

/// The rules of the documented line, for the prefix of this lab.
fn documented(lab: &Lab) -> Vec<String> {
    let pattern = format!("~{}:*", lab.config.redis.prefix);
    rights::documented()
        .into_iter()
        .map(|rule| {
            if rule == "~ms:*" {
                pattern.clone()
            } else {
                rule.to_owned()
            }
        })
        .collect()
}

/// A private lab whose processes have exactly the documented rights.
async fn lab() -> Lab {
    let mut lab = Lab::private(Durability::None).await;
    let rules = documented(&lab);
    set_user(&lab, &rules.iter().map(String::as_str).collect::<Vec<_>>()).await;
    // The test's own questions are not meant: they keep the first URL.
    lab.config.redis.url = as_user(&lab, "PASSWORD");
    lab
}

fn as_user(lab: &Lab, password: &str) -> Secret {
    let (_, place) = lab
        .servers()
        .redis_url
        .split_once('@')
        .expect("a URL with credentials");
    Secret::new(format!("redis://millstream:{password}@{place}"))
}

/// By the user who may everything.
async fn admin(lab: &Lab, words: &[&str]) -> redis::RedisResult<redis::Value> {
    let client = redis::Client::open(lab.servers().redis_url.as_str()).expect("a Redis URL");
    let mut conn = client
        .get_multiplexed_async_connection()
        .await
        .expect("Redis answers");
    redis::cmd(words[0])
        .arg(&words[1..])
        .query_async(&mut conn)
        .await
}

async fn set_user(lab: &Lab, rules: &[&str]) {
    admin(lab, &[&["ACL", "SETUSER", "millstream"], rules].concat())
        .await
        .unwrap_or_else(|e| panic!("{rules:?}: {e}"));
}

fn link(lab: &Lab) -> Redis {
    Redis::new(lab.config.redis.url.expose(), lab.keys()).expect("a Redis URL")
}

#[tokio::test]
async fn x20_the_documented_rights_suffice_for_all_that_is_done() {
    let lab = lab().await;
    let (worker, producer) = (lab.worker().await, lab.producer());
    send(&producer, "noop", "1", 200).await;
    lab.await_count("completed", 200).await;
    send(&producer, "fail", r#"{"class":"permanent"}"#, 3).await;
    lab.await_count("dead", 3).await;
    let told = worker.health().readiness();
    assert!(
        told.ready && told.redis == "up" && told.redis_lacks.is_none(),
        "{told:?}"
    );
    let doctor = run(&lab, &["doctor"]).await;
    let text = String::from_utf8_lossy(&doctor.stdout);
    assert!(
        doctor.status.success() && text.contains("redis rights") && !text.contains("FAIL"),
        "{text}"
    );
    worker
        .drain(tokio_util::sync::CancellationToken::new())
        .await;
    let log = admin(&lab, &["ACL", "LOG"]).await.expect("ACL LOG");
    let refused: Vec<String> = wire::records(&log)
        .filter_map(|entry| entry.text("object"))
        .collect();
    // Newer servers know the command by which a client names itself, which it does without.
    assert!(
        refused.iter().all(|what| what == "client|setinfo"),
        "nothing was refused: {refused:?}"
    );
}

/// Each documented right in turn is taken away: the probe meets it and names it, and is content when it is there again.
#[tokio::test]
async fn x20_every_documented_right_is_missed_by_name() {
    let lab = lab().await;
    let (redis, queues) = (link(&lab), [Arc::from("default"), Arc::from("documents")]);
    assert!(redis.lacking(&queues).await.expect("an answer").is_empty());
    for right in rights::needed() {
        set_user(&lab, &[&format!("-{right}")]).await;
        // A server that has forgotten its scripts shows who may load them.
        let _ = admin(&lab, &["SCRIPT", "FLUSH"]).await;
        let told = in_words(&redis.lacking(&queues).await.expect("an answer"));
        let name = right.replace('|', " ").to_uppercase();
        assert!(
            told.contains(&format!("the right to {name} ("))
                && told.contains(&format!("+{right})")),
            "{right}: {told}"
        );
        set_user(&lab, &[&format!("+{right}")]).await;
        assert!(
            redis.lacking(&queues).await.expect("an answer").is_empty(),
            "{right} is there again"
        );
    }
}

#[tokio::test]
async fn x20_a_pattern_that_leaves_out_a_queue_or_all_keys_is_missed() {
    let lab = lab().await;
    let (redis, queues) = (link(&lab), [Arc::from("default"), Arc::from("documents")]);
    let of_default = format!("~{}*q:default*", lab.config.redis.prefix);
    let others = format!("~{}*incarnation", lab.config.redis.prefix);
    let probes = format!("~{}*probe", lab.config.redis.prefix);
    let windows_of_default = [of_default.as_str(), others.as_str(), probes.as_str()];
    for patterns in [&["~elsewhere:*"][..], &windows_of_default] {
        set_user(&lab, &[&["resetkeys"], patterns].concat()).await;
        let told = in_words(&redis.lacking(&queues).await.expect("an answer"));
        assert!(
            told.contains(&format!("the right to the keys {}", lab.keys().pattern())),
            "{patterns:?}: {told}"
        );
    }
}

/// One key after another is left out: that of a queue's rare work as well, and the right to write a word that is read all the time.
#[tokio::test]
async fn x20_a_pattern_that_leaves_out_any_one_key_is_missed() {
    let lab = lab().await;
    let (redis, queues) = (link(&lab), [Arc::from("default"), Arc::from("documents")]);
    let keys = [
        "high",
        "medium",
        "low",
        "window",
        "dead",
        "probe",
        "incarnation",
    ];
    let pattern = |key: &str| format!("{}*:{key}", lab.config.redis.prefix);
    for left_out in keys {
        let others = keys
            .iter()
            .filter(|key| **key != left_out)
            .map(|key| format!("~{}", pattern(key)));
        let read_only = format!("%R~{}", pattern(left_out));
        let rules: Vec<String> = std::iter::once("resetkeys".to_owned())
            .chain(others)
            .chain([read_only])
            .collect();
        set_user(&lab, &rules.iter().map(String::as_str).collect::<Vec<_>>()).await;
        let told = in_words(&redis.lacking(&queues).await.expect("an answer"));
        assert!(
            told.contains(&format!("the right to the keys {}", lab.keys().pattern())),
            "{left_out}: {told}"
        );
        set_user(&lab, &[&format!("~{}", pattern(left_out))]).await;
        assert!(
            redis.lacking(&queues).await.expect("an answer").is_empty(),
            "{left_out} is there again"
        );
    }
}

/// A right that only burials need: it is named before anything is buried, and stays named while jobs are.
#[tokio::test]
async fn x20_a_right_that_only_rare_work_needs_is_named_for_as_long_as_it_is_missing() {
    let lab = lab().await;
    let others = ["high", "medium", "low", "window", "probe", "incarnation"]
        .map(|key| format!("~{}*:{key}", lab.config.redis.prefix));
    let rules: Vec<&str> = std::iter::once("resetkeys")
        .chain(others.iter().map(String::as_str))
        .collect();
    set_user(&lab, &rules).await;
    let worker = lab.worker().await;
    let lacks = || {
        worker
            .health()
            .readiness()
            .redis_lacks
            .is_some_and(|lacks| lacks.contains("the right to the keys"))
    };
    eventually("the right is named", async || lacks().then_some(())).await;
    let began = worker.health().readiness().breakers.redis.since;
    for nth in 1..=3 {
        send(&lab.producer(), "fail", r#"{"class":"permanent"}"#, 1).await;
        lab.await_count("dead", nth).await;
    }
    let told = worker.health().readiness();
    assert!(
        lacks() && told.breakers.redis.since == began,
        "it was closed in between: {told:?}"
    );
}

/// One worker and its fleet through a right that goes and comes back.
async fn x20_without(lab: &Lab, take: &[&str], named: &str, give: &[&str], total: i64) {
    let worker = lab.worker().await;
    let producer = lab.producer();
    send(&producer, "noop", "1", 20).await;
    lab.await_count("completed", total + 20).await;
    set_user(lab, take).await;
    send(&producer, "noop", "1", 20).await;
    eventually(&format!("{take:?} is named"), async || {
        let told = worker.health().readiness();
        (told.redis == "down"
            && told
                .redis_lacks
                .as_deref()
                .is_some_and(|lacks| lacks.contains(named)))
        .then_some(())
    })
    .await;
    send(&producer, "noop", "1", 20).await;
    lab.await_count("completed", total + 60).await;
    set_user(lab, give).await;
    eventually("the streams are used again", async || {
        (worker.health().readiness().redis == "up").then_some(())
    })
    .await;
    send(&producer, "noop", "1", 20).await;
    lab.await_count("completed", total + 80).await;
    lab.await_drained("default").await;
    worker
        .drain(tokio_util::sync::CancellationToken::new())
        .await;
}

#[tokio::test]
async fn x20_jobs_go_on_without_any_one_right_to_publish() {
    let lab = lab().await;
    for (nth, right) in ["evalsha", "xadd", "xlen", "get"].iter().enumerate() {
        let name = format!("the right to {}", right.to_uppercase());
        x20_without(
            &lab,
            &[&format!("-{right}")],
            &name,
            &[&format!("+{right}")],
            nth as i64 * 80,
        )
        .await;
    }
}

#[tokio::test]
async fn x20_jobs_go_on_without_any_one_right_to_read_or_acknowledge() {
    let lab = lab().await;
    for (nth, right) in ["xreadgroup", "xack", "xpending"].iter().enumerate() {
        let name = format!("the right to {}", right.to_uppercase());
        x20_without(
            &lab,
            &[&format!("-{right}")],
            &name,
            &[&format!("+{right}")],
            nth as i64 * 80,
        )
        .await;
    }
}

#[tokio::test]
async fn x20_jobs_go_on_without_the_right_to_scripts_or_to_the_keys() {
    let lab = lab().await;
    let pattern = format!("~{}:*", lab.config.redis.prefix);
    let again: Vec<String> = documented(&lab);
    let again: Vec<&str> = again.iter().map(String::as_str).collect();
    x20_without(
        &lab,
        &["-@scripting"],
        "the right to SCRIPT LOAD",
        &again,
        0,
    )
    .await;
    x20_without(
        &lab,
        &["resetkeys", "~elsewhere:*"],
        "the right to the keys",
        &["resetkeys", &pattern],
        80,
    )
    .await;
}

/// What `doctor` says, and its exit code.
async fn doctor(lab: &Lab) -> (Option<i32>, String) {
    let said = run(lab, &["doctor"]).await;
    (
        said.status.code(),
        String::from_utf8_lossy(&said.stdout).into_owned(),
    )
}

#[tokio::test]
async fn x20_doctor_and_the_api_name_the_missing_right() {
    let lab = lab().await;
    set_user(&lab, &["-xadd"]).await;
    let (code, text) = doctor(&lab).await;
    assert!(
        code == Some(1)
            && text.contains("FAIL  redis rights")
            && text.contains("the right to XADD"),
        "{code:?} {text}"
    );
    let api = Served::start(&lab, &["api"]).await;
    let names = |told: &serde_json::Value| {
        told["redis_lacks"]
            .as_str()
            .is_some_and(|lacks| lacks.contains("the right to XADD"))
    };
    api.await_ready("the API says what is missing", |told| {
        told["status"] == "degraded" && names(told)
    })
    .await;
}

#[tokio::test]
async fn x29_doctor_says_what_redis_has_said() {
    let mut lab = lab().await;
    set_user(&lab, &["-info"]).await;
    let (code, text) = doctor(&lab).await;
    assert!(
        code == Some(0) && text.contains("+info") && !text.contains("refused the login"),
        "{code:?} {text}"
    );
    lab.config.redis.url = as_user(&lab, "wrong");
    let (_, text) = doctor(&lab).await;
    assert!(
        text.contains("refused the login") && !text.contains("is it running"),
        "{text}"
    );
    let (_, place) = lab
        .servers()
        .redis_url
        .split_once('@')
        .expect("a URL with credentials");
    lab.config.redis.url = Secret::new(format!("redis://{place}"));
    let (_, text) = doctor(&lab).await;
    assert!(
        text.contains("asks for a password") && !text.contains("is it running"),
        "{text}"
    );
}
