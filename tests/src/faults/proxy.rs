//! A TCP proxy between one group of clients and one server, whose link can be made slow, deaf, mute or cut.
//!
//! Invariants: nothing is altered, repeated or reordered; only held, dropped with its connection, or withheld. A client of a cut
//! connection sees a reset, never a clean end. It knows of the protocols only what its `statements` read along, and nothing of TLS.
//! Reading order: [`Fault`], [`Proxy`], then `link` (one connection) and `pump` (one direction of it).

mod link;
mod pump;
mod statements;

use std::{
    collections::HashMap,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, LazyLock, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    net::{TcpListener, TcpSocket},
    runtime::Runtime,
    sync::watch,
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use super::random::Random;

/// Connections that wait to be accepted: more than any pool here opens at once.
const BACKLOG: u32 = 256;
/// Pause before the port is bound again, should the kernel refuse it for a moment.
const BIND_AGAIN: Duration = Duration::from_millis(20);

/// Of the proxies alone: a test that blocks its own runtime, or a handler that hogs it, does not stop the network too.
static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    runtime
        .worker_threads(1)
        .thread_name("proxies")
        .enable_all()
        .build()
        .expect("a runtime for the proxies")
});

/// What is wrong with the link. One at a time; setting another one replaces it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    #[default]
    Pass,
    /// Every chunk arrives this much later, each way, so a round trip takes twice as long. Order is kept.
    Delay {
        /// In the middle.
        mean: Duration,
        /// At most this much more or less.
        jitter: Duration,
    },
    /// Bytes and ends of connections in these directions are held until another fault is set, as by a network that drops
    /// packets: nobody is told. A client that connects anew is accepted and then hears nothing.
    BlackHole {
        /// From the clients to the server.
        up: bool,
        /// From the server to the clients.
        down: bool,
    },
    /// New connections are refused; open ones go on.
    Refuse,
    /// All connections are reset, and new ones as soon as they are accepted.
    Reset,
    /// Clients are told that the server has said all it had to say; what they send still arrives there.
    HalfClose,
    /// The link as a whole carries this much each way.
    Throttle {
        /// Of each direction.
        bytes_per_second: u64,
    },
    /// Every connection is cut when it has carried this much, both ways together, from now on or from its begin.
    CutAfter {
        /// The last one of them still arrives.
        bytes: u64,
    },
    /// Once: the connection that carries this to the server is cut when the server answers, before the answer passes. The bytes
    /// themselves arrive, so that it is done and the client cannot know. Then the link passes again.
    CutWhen {
        /// Raw bytes: a command of Redis, a value in a Bind, `COMMIT`. Texts of prepared statements pass when they are
        /// prepared, not when they are executed: for those there is [`Fault::CutStatement`].
        needle: Vec<u8>,
    },
    /// Like [`Fault::CutWhen`], for the execution of a Postgres statement, prepared or not, whose text contains this.
    CutStatement {
        /// A part of its SQL, as the client spells it.
        text: String,
    },
}

impl Fault {
    /// Deaf and mute.
    pub const BLACK_HOLE: Self = Self::BlackHole {
        up: true,
        down: true,
    };

    /// Nothing passes either way.
    fn holds(&self, way: Way) -> bool {
        matches!(self, Self::BlackHole { up, down } if if way == Way::Up { *up } else { *down })
    }
}

/// A direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// To the server.
    Up,
    /// To the client.
    Down,
}

/// The fault that is set, and which setting it was: budgets and searches begin anew with each.
#[derive(Debug, Clone, Default)]
struct Armed {
    setting: u64,
    fault: Fault,
}

/// How an open connection is told of its end.
#[derive(Clone, Default)]
struct Live {
    /// Cuts it.
    cut: CancellationToken,
    /// Nothing passes over it any more.
    stranded: CancellationToken,
}

/// What the connections of one proxy share.
struct Shared {
    upstream: SocketAddr,
    armed: watch::Sender<Armed>,
    live: Mutex<HashMap<u64, Live>>,
    cuts: AtomicUsize,
    random: Random,
    /// When the throttled link is free again, each way.
    free_at: [Mutex<Option<Instant>>; 2],
}

/// A running proxy; all its connections are cut when it is dropped.
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    end: CancellationToken,
}

impl Proxy {
    /// Listens on a free port of 127.0.0.1.
    pub async fn start(upstream: SocketAddr) -> Self {
        Self::seeded(upstream, 0).await
    }

    /// The same, with jitter that follows from this seed.
    #[expect(
        clippy::unused_async,
        reason = "its callers need not know that it waits for nothing"
    )]
    pub async fn seeded(upstream: SocketAddr, seed: u64) -> Self {
        let _within = RUNTIME.enter();
        // Bound and never listening, it keeps the port while new connections are refused.
        let reserved = bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).expect("a free port");
        let address = reserved
            .local_addr()
            .expect("a bound socket has an address");
        let listener = bind(address)
            .and_then(|socket| socket.listen(BACKLOG))
            .expect("the port is ours");
        let shared = Arc::new(Shared {
            upstream,
            armed: watch::Sender::new(Armed::default()),
            live: Mutex::default(),
            cuts: AtomicUsize::new(0),
            random: Random::new(seed),
            free_at: Default::default(),
        });
        let end = CancellationToken::new();
        RUNTIME.spawn(end.clone().run_until_cancelled_owned(listen(
            shared.clone(),
            reserved,
            listener,
        )));
        Self {
            address,
            shared,
            end,
        }
    }

    /// A proxy to the server that a URL names.
    pub async fn before(url: &str) -> Self {
        let (_, host, _) = split(url);
        let upstream = tokio::net::lookup_host(host)
            .await
            .expect("a URL with a host and a port")
            .next()
            .expect("the host has an address");
        Self::start(upstream).await
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The same URL, with this proxy in the place of the server.
    pub fn url(&self, original: &str) -> String {
        let (before, _, after) = split(original);
        format!("{before}{}{after}", self.address)
    }

    /// Sets the fault, for connections that are open and for new ones.
    pub fn set(&self, fault: Fault) {
        let resets = fault == Fault::Reset;
        self.shared.armed.send_modify(|armed| {
            *armed = Armed {
                setting: armed.setting + 1,
                fault,
            }
        });
        if resets {
            self.cut_all();
        }
    }

    /// Nothing is wrong any more.
    pub fn heal(&self) {
        self.set(Fault::Pass);
    }

    /// Resets every connection that is open.
    pub fn cut_all(&self) {
        self.shared
            .live()
            .values()
            .for_each(|live| live.cut.cancel());
    }

    /// Nothing passes any more over the connections that are open now, and nobody is told, as after a lost route or a machine that is
    /// gone. For good: healing does not bring them back. New ones are as the fault says.
    pub fn strand_all(&self) {
        self.shared
            .live()
            .values()
            .for_each(|live| live.stranded.cancel());
    }

    /// Connections that are open.
    pub fn connections(&self) -> usize {
        self.shared.live().len()
    }

    /// Connections that [`Fault::CutAfter`], [`Fault::CutWhen`] and [`Fault::CutStatement`] have cut.
    pub fn cuts(&self) -> usize {
        self.shared.cuts.load(Ordering::SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.end.cancel();
        self.cut_all();
    }
}

impl Shared {
    fn live(&self) -> std::sync::MutexGuard<'_, HashMap<u64, Live>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the fault back if it is still this setting of it. Of several that try, one is told `true`.
    fn disarm(&self, setting: u64) -> bool {
        self.armed.send_if_modified(|armed| {
            let mine = armed.setting == setting;
            if mine {
                *armed = Armed {
                    setting: setting + 1,
                    fault: Fault::Pass,
                };
            }
            mine
        })
    }
}

/// What stands before the host, the host with its port, and what stands behind.
fn split(url: &str) -> (&str, &str, &str) {
    let authority = url.find("://").map_or(0, |at| at + 3);
    let end = url[authority..]
        .find(['/', '?'])
        .map_or(url.len(), |at| authority + at);
    let host = url[authority..end]
        .rfind('@')
        .map_or(authority, |at| authority + at + 1);
    (&url[..host], &url[host..end], &url[end..])
}

/// Several sockets of ours may have the port, of which one listens.
fn bind(address: SocketAddr) -> std::io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

/// Accepts, unless new connections are refused.
async fn listen(shared: Arc<Shared>, reserved: TcpSocket, listener: TcpListener) {
    let mut armed = shared.armed.subscribe();
    let address = reserved
        .local_addr()
        .expect("a bound socket has an address");
    let (mut listener, mut number) = (Some(listener), 0);
    loop {
        if armed.borrow_and_update().fault == Fault::Refuse {
            drop(listener.take());
        } else if listener.is_none() {
            listener = bind(address).and_then(|socket| socket.listen(BACKLOG)).ok();
        }
        tokio::select! {
            accepted = accept(listener.as_ref()) => if let Some(client) = accepted {
                number += 1;
                tokio::spawn(link::serve(shared.clone(), client, number));
            },
            changed = armed.changed() => if changed.is_err() { return },
        }
    }
}

async fn accept(listener: Option<&TcpListener>) -> Option<tokio::net::TcpStream> {
    let Some(listener) = listener else {
        tokio::time::sleep(BIND_AGAIN).await;
        return None;
    };
    listener.accept().await.ok().map(|(client, _)| client)
}
