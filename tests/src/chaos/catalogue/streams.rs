//! Faults of what Redis holds: streams, groups and entries that are gone, moved, forged or repeated.

use std::{collections::BTreeMap, time::Duration};

use anyhow::Result;
use millstream_common::stream::{
    GROUP,
    entry::{JOBS_FIELD, PARCEL_FIELD, pack},
};
use redis::streams::{StreamInfoConsumersReply, StreamPendingCountReply};
use tokio::time::sleep;
use uuid::Uuid;

use crate::chaos::{fleet::Fleet, rng::Rng};

/// Entries that F13 records at most.
const RECORDED_MAX: usize = 2000;

type Fields = Vec<(String, Vec<u8>)>;

/// An act on one stream, and a moment of rest.
async fn act(fleet: &Fleet, words: &[&str]) -> Result<()> {
    fleet.timeline.note(&words.join(" "));
    // No stream, no group: as good as done.
    if let Err(e) = fleet.command::<redis::Value>(words).await {
        fleet.timeline.note(&format!("refused: {e:#}"));
    }
    sleep(Duration::from_millis(1200)).await;
    Ok(())
}

/// F09: what is in a stream is lost, or hidden from its readers.
pub(super) async fn lost(fleet: &Fleet, rng: &mut Rng) -> Result<()> {
    for _ in 0..5 {
        let stream = rng.pick(&fleet.streams());
        act(fleet, &["DEL", &stream]).await?;
        act(fleet, &["XGROUP", "SETID", &stream, GROUP, "$"]).await?;
    }
    Ok(())
}

/// F09: what was read already is read again.
pub(super) async fn rewound(fleet: &Fleet, rng: &mut Rng) -> Result<()> {
    for _ in 0..5 {
        let stream = rng.pick(&fleet.streams());
        act(fleet, &["XGROUP", "DESTROY", &stream, GROUP]).await?;
        act(fleet, &["XGROUP", "SETID", &stream, GROUP, "0"]).await?;
    }
    Ok(())
}

/// F10
pub(super) async fn consumers_deleted(fleet: &Fleet, rng: &mut Rng) -> Result<()> {
    for _ in 0..16 {
        let stream = rng.pick(&fleet.streams());
        let found = fleet
            .command::<StreamInfoConsumersReply>(&["XINFO", "CONSUMERS", &stream, GROUP])
            .await;
        for consumer in found.map(|reply| reply.consumers).unwrap_or_default() {
            let pending: i64 = fleet
                .command(&["XGROUP", "DELCONSUMER", &stream, GROUP, &consumer.name])
                .await?;
            if pending > 0 {
                fleet.timeline.note(&format!(
                    "XGROUP DELCONSUMER {stream} {} with {pending} pending",
                    consumer.name
                ));
            }
        }
        sleep(Duration::from_millis(500)).await;
    }
    Ok(())
}

/// F11
pub(super) async fn entries_deleted(fleet: &Fleet, _: &mut Rng) -> Result<()> {
    for nth in 0..10 {
        for stream in fleet.streams() {
            if nth % 2 == 0 {
                let gone: i64 = fleet.command(&["XTRIM", &stream, "MAXLEN", "0"]).await?;
                fleet
                    .timeline
                    .note(&format!("XTRIM {stream}: {gone} entries gone"));
                continue;
            }
            let found = fleet
                .command::<StreamPendingCountReply>(&["XPENDING", &stream, GROUP, "-", "+", "100"])
                .await;
            for entry in found.map(|reply| reply.ids).unwrap_or_default() {
                let _gone: i64 = fleet.command(&["XDEL", &stream, &entry.id]).await?;
            }
        }
        sleep(Duration::from_secs(1)).await;
    }
    Ok(())
}

/// F12: nothing runs that Postgres does not allow.
pub(super) async fn forged(fleet: &Fleet, rng: &mut Rng) -> Result<()> {
    for _ in 0..5 {
        let mut forgeries = garbage(rng);
        for (what, sql) in [
            (
                "finished",
                "SELECT id, epoch FROM millstream.job WHERE state = 2 ORDER BY id DESC LIMIT 25",
            ),
            (
                "running",
                "SELECT job_id, epoch FROM millstream.lease LIMIT 25",
            ),
        ] {
            let jobs: Vec<(Uuid, i32)> = sqlx::query_as(sql)
                .fetch_all(&mut fleet.postgres().await?)
                .await?;
            fleet
                .timeline
                .note(&format!("entries forged for {} {what} jobs", jobs.len()));
            forgeries.extend((!jobs.is_empty()).then(|| fields(b"0", pack(&jobs))));
        }
        for stream in fleet.streams() {
            for forgery in &forgeries {
                add(fleet, &stream, forgery).await?;
            }
            let real = entries(fleet, &stream).await?;
            fleet.timeline.note(&format!(
                "ten copies of each of {} entries of {stream}",
                real.len()
            ));
            for fields in real
                .values()
                .flat_map(|fields| std::iter::repeat_n(fields, 10))
            {
                add(fleet, &stream, fields).await?;
            }
        }
        sleep(Duration::from_millis(1500)).await;
    }
    Ok(())
}

/// X60: names of fields, groups and consumers that are no text. Whoever reads under such a name is nobody, and what he was given is taken over.
pub(super) async fn unreadable(fleet: &Fleet, _: &mut Rng) -> Result<()> {
    const NAME: &[u8] = b"\xff\xfe";
    for stream in fleet.streams() {
        // Refused where it is there already, or where there is no stream yet.
        drop(
            fleet
                .command_of_bytes::<redis::Value>(&[
                    b"XGROUP",
                    b"CREATE",
                    stream.as_bytes(),
                    NAME,
                    b"0",
                ])
                .await,
        );
    }
    for _ in 0..6 {
        for stream in fleet.streams() {
            for fields in [[NAME, b"v"], [b"", b""], [b"j", NAME], [b"p", NAME]] {
                let _id: String = fleet
                    .command_of_bytes(&[&[b"XADD", stream.as_bytes(), b"*"], &fields[..]].concat())
                    .await?;
            }
            let read: [&[u8]; 9] = [
                b"XREADGROUP",
                b"GROUP",
                GROUP.as_bytes(),
                NAME,
                b"COUNT",
                b"5",
                b"STREAMS",
                stream.as_bytes(),
                b">",
            ];
            drop(fleet.command_of_bytes::<redis::Value>(&read).await);
        }
        let word = fleet.keys().incarnation();
        let () = fleet
            .command_of_bytes(&[b"SET", word.as_bytes(), NAME])
            .await?;
        fleet
            .timeline
            .note("entries, a consumer and a word that are no text");
        sleep(Duration::from_secs(2)).await;
    }
    for stream in fleet.streams() {
        drop(
            fleet
                .command_of_bytes::<redis::Value>(&[b"XGROUP", b"DESTROY", stream.as_bytes(), NAME])
                .await,
        );
    }
    Ok(())
}

/// X61: a stream takes nothing more, or gives nothing more.
pub(super) async fn used_up(fleet: &Fleet, rng: &mut Rng) -> Result<()> {
    const LAST: &str = "18446744073709551615-18446744073709551615";
    for _ in 0..3 {
        let stream = rng.pick(&fleet.streams());
        act(fleet, &["XADD", &stream, LAST, "x", "y"]).await?;
        let stream = rng.pick(&fleet.streams());
        act(
            fleet,
            &["XGROUP", "SETID", &stream, GROUP, "99999999999999-0"],
        )
        .await?;
        let stream = rng.pick(&fleet.streams());
        act(fleet, &["XGROUP", "SETID", &stream, GROUP, LAST]).await?;
        let stream = rng.pick(&fleet.streams());
        act(fleet, &["XSETID", &stream, LAST]).await?;
    }
    Ok(())
}

fn fields(parcel: &[u8], jobs: Vec<u8>) -> Fields {
    vec![
        (PARCEL_FIELD.to_owned(), parcel.to_vec()),
        (JOBS_FIELD.to_owned(), jobs),
    ]
}

fn garbage(rng: &mut Rng) -> Vec<Fields> {
    let mut noise = |length: usize| (0..length).map(|_| rng.draw() as u8).collect::<Vec<u8>>();
    let unknown: Vec<(Uuid, i32)> = (0..5)
        .map(|n| {
            (
                Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0000 + n),
                n as i32,
            )
        })
        .collect();
    vec![
        fields(b"0", pack(&unknown)),
        fields(b"no number", pack(&unknown)),
        fields(b"1", noise(200)),
        fields(b"1", noise(1_000_000)),
        vec![(JOBS_FIELD.to_owned(), pack(&unknown))],
        vec![(PARCEL_FIELD.to_owned(), b"1".to_vec())],
        vec![("rubbish".to_owned(), noise(20))],
    ]
}

/// F13
pub(super) async fn replayed(fleet: &Fleet, rng: &mut Rng) -> Result<()> {
    let mut recorded: BTreeMap<(String, String), Fields> = BTreeMap::new();
    for _ in 0..40 {
        for stream in fleet.streams() {
            recorded.extend(
                entries(fleet, &stream)
                    .await?
                    .into_iter()
                    .map(|(id, fields)| ((stream.clone(), id), fields)),
            );
        }
        sleep(Duration::from_millis(100)).await;
    }
    let mut again: Vec<_> = recorded.into_iter().take(RECORDED_MAX).collect();
    rng.shuffle(&mut again);
    fleet.timeline.note(&format!(
        "{} recorded entries are added again in another order",
        again.len()
    ));
    for ((stream, _), fields) in &again {
        add(fleet, stream, fields).await?;
    }
    Ok(())
}

async fn entries(fleet: &Fleet, stream: &str) -> Result<BTreeMap<String, Fields>> {
    let found: Vec<(String, BTreeMap<String, Vec<u8>>)> = fleet
        .command(&["XRANGE", stream, "-", "+", "COUNT", "200"])
        .await?;
    Ok(found
        .into_iter()
        .map(|(id, fields)| (id, fields.into_iter().collect()))
        .collect())
}

async fn add(fleet: &Fleet, stream: &str, fields: &Fields) -> Result<()> {
    let mut words: Vec<&[u8]> = vec![b"XADD", stream.as_bytes(), b"*"];
    words.extend(
        fields
            .iter()
            .flat_map(|(name, value)| [name.as_bytes(), value.as_slice()]),
    );
    let _id: String = fleet.command_of_bytes(&words).await?;
    Ok(())
}
