//! The probe does with keys of its own whatever the work does, and names the keys of the work. So it finds a missing right, a pattern that leaves
//! out a key, or a command that this server does not have. It finds them by name, and before jobs stand still.
//!
//! The probe changes no key of the work.
//!
//! PING is no probe: a server with a full disk or a lost primary answers it, and a user who lacks
//! XADD alone is allowed everything else. One script does all that the work does, every 500 ms
//! while the breaker is open.

use std::sync::{Arc, LazyLock};

use redis::{RedisError, Script, Value};

use super::{
    GROUP,
    keys::Keys,
    link::Redis,
    refused::Refused,
    remedy::{Remedy, code, said},
};
use crate::{error::Outage, job::Priority};

/// As a consumer of its own stream.
const CONSUMER: &str = "probe";
/// Whose keys it uses while no queue is known yet.
const QUEUE_ANY: &str = "default";
const OP: &str = "probing Redis";
/// How long its string stays; nobody reads it.
const KEPT_S: u32 = 60;

const SOURCE: &str = include_str!("probe.lua");
static SCRIPT: LazyLock<Script> = LazyLock::new(|| Script::new(SOURCE));

/// Names of commands, and the commands.
type Asked = (Vec<&'static str>, redis::Pipeline);

/// Something that the work needs and is refused.
#[derive(Debug)]
pub struct Lack {
    /// As an ACL names it: `xadd`, `xinfo|groups`.
    command: String,
    pattern: String,
    error: RedisError,
}

impl std::fmt::Display for Lack {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (command, pattern) = (&self.command, &self.pattern);
        let shown = command.replace('|', " ").to_uppercase();
        let is_of_keys =
            said(&self.error).is_some_and(|said| said.contains("access") && said.contains("key"));
        match Remedy::of(&self.error).1 {
            "NOPERM" if is_of_keys => write!(
                f,
                "the right to the keys {pattern} (ACL SETUSER NAME ~{pattern}), met by {shown}"
            ),
            "NOPERM" => write!(f, "the right to {shown} (ACL SETUSER NAME +{command})"),
            "unknown command" => write!(f, "the command {shown}, which this server does not have"),
            _ => write!(f, "{shown}: {}", self.error),
        }
    }
}

/// The whole of what is missing, in one line.
pub fn in_words(lacks: &[Lack]) -> String {
    lacks
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join("; ")
}

impl Redis {
    /// Asks the server whether it does what the work needs; closes or opens the breaker. Of the queues one takes its turn while all is well,
    /// and all are asked for when something was refused.
    pub async fn probe(&self, queues: &[Arc<str>]) -> Result<(), Outage> {
        let turn = if self.refuses_work() || queues.is_empty() {
            queues
        } else {
            std::slice::from_ref(&queues[self.turn() % queues.len()])
        };
        let mut lacks = self.lacking(turn).await?;
        let Some(first) = (!lacks.is_empty()).then(|| in_words(&lacks)) else {
            self.note_worked();
            return Ok(());
        };
        let source = lacks.swap_remove(0).error;
        self.note_lacking(&source, first);
        Err(Outage::Redis { op: OP, source })
    }

    /// What the work needs and is refused; empty: all is there. An error is a server that takes no work of anybody now. Decides nothing.
    pub async fn lacking(&self, queues: &[Arc<str>]) -> Result<Vec<Lack>, Outage> {
        let any = [Arc::from(QUEUE_ANY)];
        let queues = if queues.is_empty() { &any } else { queues };
        let mut conn = self.connection(OP).await?;
        let mut refused = self.refused(&mut conn, greeting()).await?;
        // Before a login the server closes a connection over which a command of more than ten words comes.
        if !refused
            .iter()
            .any(|(_, error)| code(error).as_deref() == Some("NOAUTH"))
        {
            refused.extend(self.refused(&mut conn, self.asked(queues)).await?);
        }
        // A server that is away for everybody for now: full, loading, a replica.
        let is_away = |error: &RedisError| matches!(Remedy::of(error), (remedy, word) if remedy.is_outage() && !Refused::is_meant(word));
        if let Some((_, source)) = refused.iter().find(|(_, error)| is_away(error)) {
            let outage = Outage::Redis {
                op: OP,
                source: source.clone(),
            };
            self.note(&outage);
            return Err(outage);
        }
        Ok(lacks(refused, &self.keys().pattern()))
    }

    /// What is refused of these commands, and how.
    async fn refused(
        &self,
        conn: &mut deadpool_redis::Connection,
        (names, mut pipe): Asked,
    ) -> Result<Vec<(String, RedisError)>, Outage> {
        let answers: Vec<Result<Value, RedisError>> = self
            .unpraised(OP, pipe.ignore_errors().query_async(conn))
            .await?;
        Ok(names
            .into_iter()
            .zip(answers)
            .flat_map(|(name, answer)| refusals(name, answer))
            .collect())
    }

    /// The commands and their names. The script is loaded each time: that it was loaded once does not say that it may be again.
    fn asked(&self, queues: &[Arc<str>]) -> Asked {
        let (keys, mut pipe) = (self.keys(), redis::pipe());
        // A write, because a full disk or a lost primary answers PING and refuses work.
        pipe.cmd("SET")
            .arg(keys.probe())
            .arg(1)
            .arg("EX")
            .arg(KEPT_S);
        pipe.cmd("GET").arg(keys.incarnation());
        pipe.cmd("SCRIPT").arg("LOAD").arg(SOURCE);
        // The word of the streams is also written, but rarely: reading it says nothing of that right.
        pipe.cmd("EVALSHA")
            .arg(SCRIPT.get_hash())
            .arg(1)
            .arg(keys.incarnation());
        let mut names = vec!["set", "get", "script|load", "evalsha"];
        for queue in queues {
            let of_queue = of_queue(keys, queue);
            pipe.cmd("EVALSHA")
                .arg(SCRIPT.get_hash())
                .arg(of_queue.len())
                .arg(of_queue)
                .arg(GROUP)
                .arg(CONSUMER);
            names.push("evalsha");
        }
        (names, pipe)
    }
}

/// What the pool of connections asks before it lends one.
fn greeting() -> Asked {
    let mut pipe = redis::pipe();
    pipe.cmd("UNWATCH").cmd("PING");
    (vec!["unwatch", "ping"], pipe)
}

/// All keys of a queue, as the script wants them: its own and the window first. What only rare work uses, the board of dead jobs, is among
/// them: a right that is missed there alone would open and close the breaker for as long as it is missing.
fn of_queue(keys: &Keys, queue: &str) -> Vec<String> {
    let own = [
        keys.probe_stream(queue),
        keys.window(queue),
        keys.dead(queue),
    ];
    own.into_iter()
        .chain(
            Priority::ALL
                .into_iter()
                .map(|priority| keys.stream(queue, priority)),
        )
        .collect()
}

/// What an answer says was refused: the command itself, or those that the script tried.
fn refusals(name: &'static str, answer: Result<Value, RedisError>) -> Vec<(String, RedisError)> {
    match answer {
        Err(error) => vec![(name.to_owned(), error)],
        Ok(Value::Array(told)) => {
            let texts: Vec<String> = told
                .iter()
                .filter_map(|value| redis::from_redis_value_ref(value).ok())
                .collect();
            texts
                .chunks_exact(2)
                .map(|pair| (pair[0].clone(), server_error(&pair[1])))
                .collect()
        }
        Ok(_) => Vec::new(),
    }
}

/// A text that a script was answered with, as the error that it would have been without a script.
fn server_error(text: &str) -> RedisError {
    let line = format!("-{}\r\n", text.replace(['\r', '\n'], " "));
    let parsed = redis::parse_redis_value(line.as_bytes()).and_then(Value::extract_error);
    parsed
        .err()
        .unwrap_or_else(|| (redis::ErrorKind::Client, "refused").into())
}

/// Each command once, and the whole pattern of keys once. What fails only because something before it was refused is left out.
fn lacks(refused: Vec<(String, RedisError)>, pattern: &str) -> Vec<Lack> {
    let is_meant = |error: &RedisError| Refused::is_meant(Remedy::of(error).1);
    let has_cause = refused.iter().any(|(_, error)| is_meant(error));
    let mut lacks: Vec<Lack> = Vec::new();
    for (command, error) in refused
        .into_iter()
        .filter(|(_, error)| !has_cause || is_meant(error))
    {
        let lack = Lack {
            command,
            pattern: pattern.to_owned(),
            error,
        };
        let text = |lack: &Lack| {
            lack.to_string()
                .split(", met by")
                .next()
                .unwrap_or_default()
                .to_owned()
        };
        if lacks.iter().all(|known| text(known) != text(&lack)) {
            lacks.push(lack);
        }
    }
    lacks
}
