//! One connection through the proxy: the client's socket, the server's, and a pump for each direction.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, Ordering},
};

use super::{Armed, Fault, Live, Shared, Way, pump::pump};
use crate::faults::random::Random;
use tokio::{net::TcpStream, sync::watch};

/// What both directions of a connection share.
pub(super) struct Link {
    pub(super) shared: Arc<Shared>,
    /// Cuts or strands both.
    pub(super) live: Live,
    /// The bytes that make it a case for [`Fault::CutWhen`] have arrived: the answer must not.
    pub(super) is_doomed: AtomicBool,
    /// Bytes carried under a setting of the fault.
    carried: Mutex<(u64, u64)>,
    /// Of this connection alone.
    pub(super) random: Random,
}

impl Link {
    pub(super) fn armed(&self) -> watch::Receiver<Armed> {
        self.shared.armed.subscribe()
    }

    /// Cuts the connection as the fault demands.
    pub(super) fn cut(&self) {
        self.shared.cuts.fetch_add(1, Ordering::SeqCst);
        self.live.cut.cancel();
    }

    /// How many of `wanted` bytes still fit into the budget of this setting.
    pub(super) fn spend(&self, setting: u64, budget: u64, wanted: usize) -> usize {
        let mut carried = self.carried.lock().expect("no pump panics here");
        if carried.0 != setting {
            *carried = (setting, 0);
        }
        let fit = (budget.saturating_sub(carried.1)).min(wanted as u64);
        carried.1 += fit;
        fit as usize
    }

    /// Waits while the fault holds this direction.
    pub(super) async fn open(&self, way: Way) {
        // Fails only when the proxy is gone, and then the connection is cut anyway.
        drop(self.armed().wait_for(|armed| !armed.fault.holds(way)).await);
        self.unless_stranded().await;
    }

    /// Returns at once, or never.
    pub(super) async fn unless_stranded(&self) {
        if self.live.stranded.is_cancelled() {
            std::future::pending::<()>().await;
        }
    }
}

/// Serves one connection to its end.
pub(super) async fn serve(shared: Arc<Shared>, client: TcpStream, number: u64) {
    let live = Live::default();
    shared.live().insert(number, live.clone());
    let random = shared.random.branch(number);
    let link = Link {
        shared: shared.clone(),
        live,
        is_doomed: AtomicBool::new(false),
        carried: Mutex::default(),
        random,
    };
    carry(&link, client).await;
    shared.live().remove(&number);
}

async fn carry(link: &Link, mut client: TcpStream) {
    let resets = link.shared.armed.borrow().fault == Fault::Reset;
    let server = link
        .live
        .cut
        .run_until_cancelled(connect(link))
        .await
        .flatten()
        .filter(|_| !resets);
    let Some(mut server) = server else {
        return reset(&client);
    };
    drop((client.set_nodelay(true), server.set_nodelay(true)));
    let was_cut = {
        let (client_reads, client_writes) = client.split();
        let (server_reads, server_writes) = server.split();
        let both = async {
            tokio::join!(
                pump(link, Way::Up, client_reads, server_writes),
                pump(link, Way::Down, server_reads, client_writes)
            )
        };
        link.live.cut.run_until_cancelled(both).await.is_none()
    };
    if was_cut {
        reset(&client);
        // A server that has been given the bytes in question keeps them: it is left by an ordinary end.
        if !link.is_doomed.load(Ordering::SeqCst) {
            reset(&server);
        }
    }
}

/// `None`: the server cannot be reached, which the client learns as soon as anything may reach it.
async fn connect(link: &Link) -> Option<TcpStream> {
    link.open(Way::Up).await;
    let server = TcpStream::connect(link.shared.upstream).await;
    if server.is_err() {
        link.open(Way::Down).await;
    }
    server.ok()
}

/// The peer will see a reset instead of an end when the socket is dropped.
fn reset(socket: &TcpStream) {
    // Fails only on a socket that is no longer connected, whose peer knows already.
    drop(socket.set_zero_linger());
}
