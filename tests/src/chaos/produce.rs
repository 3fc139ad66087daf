//! A producer: asks for so many jobs a second through one door, and journals intent and answer of each.
//!
//! What is in flight is bounded by the number of callers: when all wait, ticks are skipped, and no queue of waiting calls grows.

use std::{path::PathBuf, sync::Arc, time::Duration};

use anyhow::Result;
use millstream_common::{config::Config, id::new_job_id};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{Mutex, mpsc},
    task::JoinSet,
    time::{MissedTickBehavior, interval},
};

use super::{
    door::{Answer, CALL_DEADLINE, Door, Kind, answer_of},
    journal::{Event, Journal, Token},
    rng::Rng,
    workload::{Ask, Mix},
};

/// Callers of one process.
const CALLERS: usize = 16;
/// How often a keyed job whose answer is unknown is asked for again, and how long between.
const REPEATS_MAX: usize = 200;
const REPEAT_AFTER: Duration = Duration::from_millis(500);
/// How often a document is handed in.
const DOCUMENT_EVERY: Duration = Duration::from_secs(10);
/// An upload takes longer than a job.
const UPLOAD_DEADLINE: Duration = Duration::from_mins(1);

/// What to produce.
pub struct Plan {
    /// Through which door.
    pub door: Kind,
    /// How many jobs a second.
    pub per_second: u64,
    /// Decides the mix.
    pub seed: u64,
    /// The first token; the process has the next thousand million to itself.
    pub first_token: Token,
    /// Where the API listens.
    pub api: String,
    /// Handed in every ten seconds, if given.
    pub document: Option<PathBuf>,
    /// Callers give up after at most so long, if given, wherever their call is then.
    pub patience: Option<Duration>,
}

/// How long a caller waits for an answer.
enum Patience {
    /// As long as anybody.
    Usual,
    /// Anything up to this.
    Drawn(Rng, Duration),
}

impl Patience {
    fn next(&mut self) -> Duration {
        match self {
            Self::Usual => CALL_DEADLINE,
            Self::Drawn(rng, most) => {
                Duration::from_micros(rng.below(most.as_micros().max(1) as u64))
            }
        }
    }
}

/// Produces until SIGTERM or SIGINT; what is in flight is ended first, unless a second signal says otherwise.
pub async fn run(plan: Plan, config: Config, journal: Journal) -> Result<()> {
    let (mut terminate, mut interrupt) = (
        signal(SignalKind::terminate())?,
        signal(SignalKind::interrupt())?,
    );
    let journal = Arc::new(journal);
    let mix = Arc::new(std::sync::Mutex::new(Mix::new(plan.seed, plan.first_token)));
    let client = reqwest::Client::builder()
        .timeout(UPLOAD_DEADLINE)
        .build()?;
    let producer = if plan.door == Kind::Library {
        Some(Door::library(&config).await?)
    } else {
        None
    };
    let (asks, inbox) = mpsc::channel::<Ask>(CALLERS);
    let inbox = Arc::new(Mutex::new(inbox));
    let mut callers = JoinSet::new();
    for nth in 0..CALLERS {
        let door = match (&producer, plan.door) {
            (Some(producer), _) => Door::Library(Box::new(producer.clone())),
            (None, Kind::Sql) => Door::Sql(Box::new(config.database.url.expose().parse()?), None),
            (None, _) => Door::Http(client.clone(), plan.api.clone()),
        };
        let patience = plan.patience.map_or(Patience::Usual, |most| {
            Patience::Drawn(
                Rng::of(plan.seed, &format!("patience {} {nth}", plan.first_token)),
                most,
            )
        });
        callers.spawn(call(door, patience, inbox.clone(), journal.clone()));
    }
    tokio::select! {
        () = tick(plan.per_second, &mix, asks) => {}
        () = hand_in(&plan, &client, &mix, &journal) => {}
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    // The channel is closed: callers end when it is empty.
    tokio::select! {
        () = async { while callers.join_next().await.is_some() {} } => {}
        // What became of their calls is as unknown as after a kill.
        _ = terminate.recv() => callers.abort_all(),
    }
    if let Some(producer) = producer {
        producer.close().await;
    }
    Ok(())
}

async fn tick(per_second: u64, mix: &std::sync::Mutex<Mix>, asks: mpsc::Sender<Ask>) {
    let mut ticks = interval(Duration::from_micros(1_000_000 / per_second.max(1)));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        ticks.tick().await;
        if let Ok(room) = asks.try_reserve() {
            room.send(mix.lock().expect("nobody panics here").ask());
        }
    }
}

async fn call(
    mut door: Door,
    mut patience: Patience,
    inbox: Arc<Mutex<mpsc::Receiver<Ask>>>,
    journal: Arc<Journal>,
) {
    loop {
        let next = inbox.lock().await.recv().await;
        let Some(ask) = next else { return };
        journal.write(Event::Intent(ask.token));
        // The same id at every repetition; only the library's door takes it.
        let id = new_job_id();
        for _ in 0..REPEATS_MAX {
            let answer = door.ask(&ask, id, patience.next()).await;
            let unknown = matches!(answer, Answer::Unknown(_));
            note(&journal, ask.token, answer);
            if !unknown || ask.key.is_none() {
                break;
            }
            tokio::time::sleep(REPEAT_AFTER).await;
        }
    }
}

fn note(journal: &Journal, token: Token, answer: Answer) {
    journal.write(match answer {
        Answer::Ok(id) => Event::Ok(token, id),
        Answer::Failed(why) => Event::Failed(token, why),
        Answer::Unknown(why) => Event::Unknown(token, why),
    });
}

/// Hands in the document every now and then; its token is its name. Never returns.
async fn hand_in(
    plan: &Plan,
    client: &reqwest::Client,
    mix: &std::sync::Mutex<Mix>,
    journal: &Journal,
) {
    let Some(path) = &plan.document else {
        return std::future::pending().await;
    };
    let bytes = std::fs::read(path).expect("the document can be read");
    let mut ticks = interval(DOCUMENT_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let token = mix.lock().expect("nobody panics here").token();
        journal.write(Event::Document(token));
        let part = reqwest::multipart::Part::bytes(bytes.clone()).file_name(format!("{token}.pdf"));
        let form = reqwest::multipart::Form::new().part("file", part);
        let sent = client
            .post(format!("{}/v1/documents", plan.api))
            .multipart(form)
            .send()
            .await;
        note(journal, token, answer_of(sent).await);
    }
}
