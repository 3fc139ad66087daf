//! Clocks of single processes.

use std::{
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdout, Command, Stdio},
};

use millstream_local::{Durability, ServerEnv};
use millstream_tests::{Clock, Lab, servers::built};

/// A machine under load may take this long between two looks at its clocks.
const SLACK_S: i64 = 60;
const HOUR_S: i64 = 3_600;

/// A process that tells its clocks when asked.
struct Face(Child, BufReader<ChildStdout>);

impl Face {
    fn start(clock: &Clock) -> Self {
        let mut command = Command::new(built("clockface"));
        let mut child = command
            .envs(clock.env())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let answers = BufReader::new(child.stdout.take().unwrap());
        Self(child, answers)
    }

    /// How far its wall clock is from ours, and its own time since its start, in milliseconds.
    fn look(&mut self) -> (i64, i64) {
        writeln!(self.0.stdin.as_mut().unwrap()).unwrap();
        let mut line = String::new();
        self.1.read_line(&mut line).unwrap();
        let (wall, since) = line.trim().split_once(' ').unwrap();
        (
            wall.parse::<i64>().unwrap() - chrono::Utc::now().timestamp_millis(),
            since.parse().unwrap(),
        )
    }
}

impl Drop for Face {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn is_about(difference_s: i64, wanted_s: i64) -> bool {
    (difference_s - wanted_s).abs() < SLACK_S
}

#[test]
fn the_wall_clock_of_a_running_process_steps_and_its_monotonic_clock_does_not() {
    let mut clock = Clock::new().unwrap();
    let mut face = Face::start(&clock);
    assert!(is_about(face.look().0 / 1000, 0));
    clock.step(HOUR_S);
    assert!(is_about(face.look().0 / 1000, HOUR_S));
    clock.step(-2 * HOUR_S);
    let (ahead, since) = face.look();
    assert!(
        is_about(ahead / 1000, -HOUR_S) && (0..SLACK_S * 1000).contains(&since),
        "{ahead} ms, {since} ms"
    );
}

#[test]
fn a_clock_that_drifts_runs_away_and_can_be_made_right_again() {
    let clock = Clock::new().unwrap();
    let mut face = Face::start(&clock);
    let begin = face.look().1;
    // A thousand times as fast, so that it shows before anybody has to wait.
    clock.drift(100_000.0);
    let (ahead, since) = std::iter::repeat_with(|| face.look())
        .find(|(_, since)| *since >= begin + 20)
        .unwrap();
    let wanted = (since - begin) * 1_000;
    assert!(
        ahead > 0 && ahead < wanted + SLACK_S * 1_000_000,
        "{ahead} ms ahead, at most about {wanted}"
    );
    let (more, _) = std::iter::repeat_with(|| face.look())
        .find(|(_, now)| *now >= since + 5)
        .unwrap();
    assert!(more >= ahead + 4_000, "{more} after {ahead}");
    clock.drift(0.0);
    assert!(is_about(face.look().0 / 1000, 0));
}

#[tokio::test]
async fn each_server_of_a_private_lab_can_have_a_clock_of_its_own() {
    let (mut of_postgres, mut of_redis) = (Clock::new().unwrap(), Clock::new().unwrap());
    let env = ServerEnv {
        postgres: of_postgres.env(),
        redis: of_redis.env(),
    };
    let lab = Lab::private_with(Durability::None, env).await;
    let differences = async || {
        let now = chrono::Utc::now().timestamp();
        let postgres = lab
            .number("SELECT extract(epoch FROM clock_timestamp())::bigint")
            .await;
        let redis: (i64, i64) = lab.command(&["TIME"]).await;
        (postgres - now, redis.0 - now)
    };
    let (postgres, redis) = differences().await;
    assert!(is_about(postgres, 0) && is_about(redis, 0));
    of_postgres.step(HOUR_S);
    of_redis.step(-HOUR_S);
    let (postgres, redis) = differences().await;
    assert!(
        is_about(postgres, HOUR_S) && is_about(redis, -HOUR_S),
        "{postgres} s, {redis} s"
    );
    lab.harm(|servers| servers.kill9_redis().and_then(|()| servers.start_redis()))
        .await;
    assert!(
        is_about(differences().await.1, -HOUR_S),
        "a restarted server keeps its clock"
    );
}
