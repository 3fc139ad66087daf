//! One direction of a connection: chunks are read as they come, held as long as the fault demands, and written in order.

use std::{io, sync::atomic::Ordering, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::tcp::{ReadHalf, WriteHalf},
    sync::{mpsc, watch},
    time::{Instant, sleep_until},
};

use super::{Armed, Fault, Way, link::Link, statements::Statements};
use crate::faults::random::Random;

/// Small enough that a throttled link moves in steps, large enough that an open one costs little.
const CHUNK_BYTES: usize = 8 * 1024;
/// Chunks on the way: 512 KB, more than a round trip of the slowest link here carries. Beyond it the sender is held up.
const CHUNKS_MAX: usize = 64;

/// What was read, and when; an empty chunk is the sender's end, an error its reset.
type Chunk = (Instant, io::Result<Vec<u8>>);

/// Carries this direction until its end.
pub(super) async fn pump(link: &Link, way: Way, from: ReadHalf<'_>, to: WriteHalf<'_>) {
    let (chunks, queue) = mpsc::channel(CHUNKS_MAX);
    let number = if way == Way::Up { 1 } else { 2 };
    let writer = Writer {
        link,
        way,
        to,
        armed: link.armed(),
        random: link.random.branch(number),
        statements: Statements::default(),
        tail: (0, Vec::new()),
        is_closed: false,
    };
    tokio::join!(read(from, chunks), writer.run(queue));
}

async fn read(mut from: ReadHalf<'_>, chunks: mpsc::Sender<Chunk>) {
    loop {
        let mut bytes = vec![0; CHUNK_BYTES];
        let read = from.read(&mut bytes).await.map(|length| {
            bytes.truncate(length);
            bytes
        });
        let is_last = read.as_ref().map_or(true, Vec::is_empty);
        if chunks.send((Instant::now(), read)).await.is_err() || is_last {
            return;
        }
    }
}

struct Writer<'a> {
    link: &'a Link,
    way: Way,
    to: WriteHalf<'a>,
    armed: watch::Receiver<Armed>,
    random: Random,
    statements: Statements,
    /// The last bytes under a setting of the fault: a needle may come in two chunks.
    tail: (u64, Vec<u8>),
    /// The receiver was told that nothing more comes.
    is_closed: bool,
}

impl Writer<'_> {
    async fn run(mut self, mut queue: mpsc::Receiver<Chunk>) {
        while let Some(chunk) = self.next(&mut queue).await {
            let (read_at, Ok(bytes)) = chunk else {
                // The sender has reset the connection: the receiver gets to know when anything reaches it.
                self.link.open(self.way).await;
                return self.link.live.cut.cancel();
            };
            self.hold(read_at, bytes.len()).await;
            if self.way == Way::Down && self.link.is_doomed.load(Ordering::SeqCst) {
                return self.link.cut();
            }
            if bytes.is_empty() {
                return self.close().await;
            }
            if self.write(&bytes).await.is_err() {
                // The receiver is gone, and the sender learns it on the other way.
                self.link
                    .open(if self.way == Way::Up {
                        Way::Down
                    } else {
                        Way::Up
                    })
                    .await;
                return self.link.live.cut.cancel();
            }
        }
    }

    /// The next chunk; meanwhile a half-close takes effect at once.
    async fn next(&mut self, queue: &mut mpsc::Receiver<Chunk>) -> Option<Chunk> {
        loop {
            if self.way == Way::Down && self.armed.borrow_and_update().fault == Fault::HalfClose {
                self.close().await;
            }
            tokio::select! {
                chunk = queue.recv() => return chunk,
                changed = self.armed.changed() => if changed.is_err() { return None },
            }
        }
    }

    async fn close(&mut self) {
        self.is_closed = true;
        // Fails only if the receiver is gone.
        drop(self.to.shutdown().await);
    }

    /// Returns when the chunk may go on. A fault that is set meanwhile counts at once.
    async fn hold(&mut self, read_at: Instant, length: usize) {
        loop {
            self.link.unless_stranded().await;
            let fault = self.armed.borrow_and_update().fault.clone();
            let until = match fault {
                Fault::Delay { mean, jitter } => Some(
                    read_at
                        + (mean + self.random.duration_below(jitter * 2)).saturating_sub(jitter),
                ),
                Fault::Throttle { bytes_per_second } => Some(self.slot(length, bytes_per_second)),
                ref fault if fault.holds(self.way) => None,
                _ => return,
            };
            let due = async {
                match until {
                    Some(until) => sleep_until(until).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = due => return,
                changed = self.armed.changed() => if changed.is_err() { return },
            }
        }
    }

    /// When the throttled link will have carried this chunk behind all earlier ones of all connections.
    fn slot(&self, length: usize, bytes_per_second: u64) -> Instant {
        let mut free_at = self.link.shared.free_at[usize::from(self.way == Way::Down)]
            .lock()
            .expect("no pump panics here");
        let begin = free_at.map_or_else(Instant::now, |at| at.max(Instant::now()));
        let end = begin + Duration::from_secs_f64(length as f64 / bytes_per_second.max(1) as f64);
        *free_at = Some(end);
        end
    }

    /// Writes what the fault lets through, and cuts where it says so.
    async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Armed { setting, fault } = self.armed.borrow_and_update().clone();
        let executed = if self.way == Way::Up {
            self.statements.read(bytes)
        } else {
            Vec::new()
        };
        if self.is_closed {
            return Ok(());
        }
        match fault {
            Fault::CutAfter { bytes: budget } => {
                let fit = self.link.spend(setting, budget, bytes.len());
                self.to.write_all(&bytes[..fit]).await?;
                if fit < bytes.len() {
                    self.link.cut();
                }
            }
            Fault::CutWhen { needle } if self.way == Way::Up => {
                let is_found = self.finds(setting, &needle, bytes);
                self.write_and_doom(setting, is_found, bytes).await?;
            }
            Fault::CutStatement { text } if self.way == Way::Up => {
                let is_found = executed.iter().any(|sql| sql.contains(&text));
                self.write_and_doom(setting, is_found, bytes).await?;
            }
            _ => self.to.write_all(bytes).await?,
        }
        Ok(())
    }

    async fn write_and_doom(
        &mut self,
        setting: u64,
        is_found: bool,
        bytes: &[u8],
    ) -> io::Result<()> {
        self.to.write_all(bytes).await?;
        // After the write: an answer to something earlier must not cut the connection before the bytes have left.
        if is_found && self.link.shared.disarm(setting) {
            self.link.is_doomed.store(true, Ordering::SeqCst);
        }
        Ok(())
    }

    fn finds(&mut self, setting: u64, needle: &[u8], bytes: &[u8]) -> bool {
        if self.tail.0 != setting {
            self.tail = (setting, Vec::new());
        }
        let tail = &mut self.tail.1;
        tail.extend_from_slice(bytes);
        let is_found = tail
            .windows(needle.len().max(1))
            .any(|window| window == needle);
        tail.drain(..tail.len().saturating_sub(needle.len().saturating_sub(1)));
        is_found
    }
}
