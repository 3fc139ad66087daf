//! The proxy between clients and a server.

use std::{
    io::ErrorKind,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use millstream_tests::{Fault, Lab, Proxy, eventually};
use sqlx::Connection;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// Long enough to see that something which would take microseconds does not happen.
const QUIET: Duration = Duration::from_millis(150);

/// A server that gives back what it gets, and remembers it.
struct Echo {
    proxy: Proxy,
    heard: Arc<Mutex<Vec<u8>>>,
}

impl Echo {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = Proxy::start(listener.local_addr().unwrap()).await;
        let heard = Arc::new(Mutex::new(Vec::new()));
        let received = heard.clone();
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                let received = received.clone();
                tokio::spawn(async move {
                    let mut bytes = [0; 4096];
                    while let Ok(length @ 1..) = socket.read(&mut bytes).await {
                        received.lock().unwrap().extend_from_slice(&bytes[..length]);
                        if socket.write_all(&bytes[..length]).await.is_err() {
                            return;
                        }
                    }
                });
            }
        });
        Self { proxy, heard }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.proxy.address()).await.unwrap()
    }

    /// A connection over which something has gone already.
    async fn open(&self) -> TcpStream {
        let mut client = self.connect().await;
        assert_eq!(say(&mut client, b"hello").await, b"hello");
        client
    }

    async fn hears(&self, bytes: &[u8]) {
        eventually("the server hears it", async || {
            self.heard.lock().unwrap().ends_with(bytes).then_some(())
        })
        .await;
    }
}

/// Sends and waits for as many bytes back.
async fn say(client: &mut TcpStream, bytes: &[u8]) -> Vec<u8> {
    client.write_all(bytes).await.unwrap();
    let mut answer = vec![0; bytes.len()];
    client.read_exact(&mut answer).await.unwrap();
    answer
}

async fn is_quiet(client: &mut TcpStream) -> bool {
    tokio::time::timeout(QUIET, client.read(&mut [0; 16]))
        .await
        .is_err()
}

async fn is_reset(client: &mut TcpStream) -> bool {
    client
        .read(&mut [0; 16])
        .await
        .is_err_and(|e| e.kind() == ErrorKind::ConnectionReset)
}

#[tokio::test]
async fn a_link_without_a_fault_changes_nothing() {
    let echo = Echo::start().await;
    let mut client = echo.open().await;
    let long: Vec<u8> = (0..300_000_u32).map(|n| n as u8).collect();
    let (mut reads, mut writes) = client.split();
    let mut answer = vec![0; long.len()];
    let (sent, got) = tokio::join!(writes.write_all(&long), reads.read_exact(&mut answer));
    sent.unwrap();
    got.unwrap();
    assert!(answer == long, "in order and whole");
    assert_eq!(echo.proxy.connections(), 1);
    drop(client);
    eventually("the end is passed on", async || {
        (echo.proxy.connections() == 0).then_some(())
    })
    .await;
    let address = echo.proxy.address();
    assert_eq!(
        echo.proxy.url("postgres://a:b@127.0.0.1:5432/db?x=y"),
        format!("postgres://a:b@{address}/db?x=y")
    );
    assert_eq!(
        echo.proxy.url("redis://127.0.0.1:1"),
        format!("redis://{address}")
    );
}

#[tokio::test]
async fn a_delay_is_felt_each_way_and_ends_at_once() {
    let echo = Echo::start().await;
    let mut client = echo.open().await;
    echo.proxy.set(Fault::Delay {
        mean: Duration::from_millis(100),
        jitter: Duration::from_millis(20),
    });
    let begin = Instant::now();
    say(&mut client, b"late").await;
    assert!(
        begin.elapsed() >= Duration::from_millis(160),
        "{:?}",
        begin.elapsed()
    );
    echo.proxy.set(Fault::Delay {
        mean: Duration::from_hours(1),
        jitter: Duration::ZERO,
    });
    client.write_all(b"never").await.unwrap();
    assert!(is_quiet(&mut client).await);
    echo.proxy.heal();
    assert_eq!(
        client.read(&mut [0; 16]).await.unwrap(),
        5,
        "what was held goes on when the link is healed"
    );
}

#[tokio::test]
async fn a_black_hole_holds_everything_and_tells_nobody() {
    let echo = Echo::start().await;
    let (mut client, gone) = (echo.open().await, echo.open().await);
    echo.proxy.set(Fault::BLACK_HOLE);
    client.write_all(b"lost?").await.unwrap();
    drop(gone);
    let mut late = echo.connect().await;
    late.write_all(b"late").await.unwrap();
    assert!(is_quiet(&mut client).await && is_quiet(&mut late).await);
    assert!(!echo.heard.lock().unwrap().ends_with(b"lost?") && echo.proxy.connections() == 3);
    echo.proxy.heal();
    assert_eq!(client.read(&mut [0; 16]).await.unwrap(), 5);
    assert_eq!(late.read(&mut [0; 16]).await.unwrap(), 4);
    eventually("the end has passed", async || {
        (echo.proxy.connections() == 2).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_black_hole_of_one_direction_leaves_the_other_open() {
    let echo = Echo::start().await;
    let mut client = echo.open().await;
    echo.proxy.set(Fault::BlackHole {
        up: false,
        down: true,
    });
    client.write_all(b"question").await.unwrap();
    echo.hears(b"question").await;
    assert!(is_quiet(&mut client).await);
    echo.proxy.set(Fault::BlackHole {
        up: true,
        down: false,
    });
    assert_eq!(
        client.read(&mut [0; 16]).await.unwrap(),
        8,
        "the answer may pass now"
    );
    client.write_all(b"another").await.unwrap();
    assert!(is_quiet(&mut client).await && echo.heard.lock().unwrap().ends_with(b"question"));
}

#[tokio::test]
async fn a_stranded_connection_is_dead_for_good_and_new_ones_live() {
    let echo = Echo::start().await;
    let mut client = echo.open().await;
    echo.proxy.strand_all();
    client.write_all(b"lost").await.unwrap();
    assert!(is_quiet(&mut client).await);
    echo.open().await;
    echo.proxy.heal();
    assert!(is_quiet(&mut client).await && !echo.heard.lock().unwrap().ends_with(b"lost"));
    echo.proxy.cut_all();
    assert!(is_reset(&mut client).await);
}

#[tokio::test]
async fn new_connections_are_refused_and_open_ones_go_on() {
    let echo = Echo::start().await;
    let mut client = echo.open().await;
    echo.proxy.set(Fault::Refuse);
    eventually("nobody listens", async || {
        let error = TcpStream::connect(echo.proxy.address()).await.err()?;
        (error.kind() == ErrorKind::ConnectionRefused).then_some(())
    })
    .await;
    assert_eq!(say(&mut client, b"still here").await, b"still here");
    echo.proxy.heal();
    eventually("somebody listens", async || {
        TcpStream::connect(echo.proxy.address()).await.ok()
    })
    .await;
    echo.open().await;
}

#[tokio::test]
async fn a_reset_is_a_reset_and_no_end() {
    let echo = Echo::start().await;
    let mut client = echo.open().await;
    echo.proxy.set(Fault::Reset);
    assert!(is_reset(&mut client).await);
    match TcpStream::connect(echo.proxy.address()).await {
        Ok(mut late) => assert!(is_reset(&mut late).await),
        Err(error) => assert_eq!(
            error.kind(),
            ErrorKind::ConnectionReset,
            "so fast that it was not even open"
        ),
    }
    echo.proxy.heal();
    let mut client = echo.open().await;
    echo.proxy.cut_all();
    assert!(is_reset(&mut client).await);
}

#[tokio::test]
async fn a_half_closed_connection_still_carries_what_the_client_says() {
    let echo = Echo::start().await;
    let mut client = echo.open().await;
    echo.proxy.set(Fault::HalfClose);
    assert_eq!(
        client.read(&mut [0; 16]).await.unwrap(),
        0,
        "an end, though the server has not ended"
    );
    client.write_all(b"and yet").await.unwrap();
    echo.hears(b"and yet").await;
}

#[tokio::test]
async fn a_throttled_link_is_as_slow_as_it_says_for_all_together() {
    let echo = Echo::start().await;
    let (mut one, mut two) = (echo.open().await, echo.open().await);
    echo.proxy.set(Fault::Throttle {
        bytes_per_second: 200_000,
    });
    let begin = Instant::now();
    let load = vec![7; 40_000];
    tokio::join!(say(&mut one, &load), say(&mut two, &load));
    assert!(
        begin.elapsed() >= Duration::from_millis(380),
        "80 kB each way took {:?}",
        begin.elapsed()
    );
}

#[tokio::test]
async fn a_connection_is_cut_after_so_many_bytes() {
    let echo = Echo::start().await;
    let mut client = echo.open().await;
    echo.proxy.set(Fault::CutAfter { bytes: 25 });
    assert_eq!(say(&mut client, b"0123456789").await, b"0123456789");
    client.write_all(b"abcdefghij").await.unwrap();
    assert!(is_reset(&mut client).await);
    echo.hears(b"0123456789abcde").await;
    let mut next = echo.connect().await;
    next.write_all(&[1; 26]).await.unwrap();
    assert!(
        is_reset(&mut next).await,
        "every connection has the same budget"
    );
    assert_eq!(echo.proxy.cuts(), 2);
}

#[tokio::test]
async fn what_comes_with_the_needle_arrives_and_its_answer_does_not() {
    let echo = Echo::start().await;
    let (mut client, mut other) = (echo.open().await, echo.open().await);
    echo.proxy.set(Fault::CutWhen {
        needle: b"COMMIT".to_vec(),
    });
    assert_eq!(say(&mut client, b"BEGIN COM").await, b"BEGIN COM");
    client.write_all(b"MIT WORK").await.unwrap();
    assert!(is_reset(&mut client).await, "the needle was in two reads");
    echo.hears(b"MIT WORK").await;
    assert_eq!(
        (echo.proxy.cuts(), say(&mut other, b"COMMIT").await),
        (1, b"COMMIT".to_vec()),
        "once, and only the one that said it"
    );
}

// F26
#[tokio::test]
async fn a_commit_whose_answer_is_cut_off_is_committed() {
    let lab = Lab::new().await;
    let url = lab.config.database.url.expose();
    let proxy = Proxy::before(url).await;
    sqlx::raw_sql("CREATE TABLE kept (n int)")
        .execute(&lab.pool)
        .await
        .unwrap();
    let mut conn = sqlx::PgConnection::connect(&proxy.url(url)).await.unwrap();
    proxy.set(Fault::CutStatement {
        text: "COMMIT".into(),
    });
    let mut tx = conn.begin().await.unwrap();
    sqlx::query("INSERT INTO kept VALUES ($1)")
        .bind(1)
        .execute(&mut *tx)
        .await
        .unwrap();
    assert!(tx.commit().await.is_err(), "the client cannot know");
    assert_eq!(
        (lab.number("SELECT count(*) FROM kept").await, proxy.cuts()),
        (1, 1)
    );
    // A prepared one: its text passes once, and is not executed then.
    let mut conn = sqlx::PgConnection::connect(&proxy.url(url)).await.unwrap();
    for (number, is_cut) in [(2, false), (3, true)] {
        let insert = sqlx::query("INSERT INTO kept VALUES ($1)")
            .bind(number)
            .execute(&mut conn)
            .await;
        assert_eq!(insert.is_err(), is_cut, "{insert:?}");
        proxy.set(Fault::CutStatement {
            text: "INTO kept".into(),
        });
    }
    lab.await_number("SELECT count(*) FROM kept", 3).await;
}
