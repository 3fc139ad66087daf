//! Where the API listens, and that it does not listen to the world without a token (S01).

use std::net::SocketAddr;

use tokio::net::{TcpListener, lookup_host};

/// Why the API does not start.
#[derive(Debug)]
pub enum ListenError {
    /// The address or the settings must change.
    Wrong(String),
    /// The system refuses the address now.
    Refused(String),
}

/// Binds `address`. Refuses one that other machines can reach unless there is a token.
pub async fn listen(address: &str, has_token: bool) -> Result<TcpListener, ListenError> {
    let wrong = |e: std::io::Error| {
        ListenError::Wrong(format!(
            "\"{address}\" is no address to listen on ({e}): use for example 127.0.0.1:8080"
        ))
    };
    let addresses: Vec<SocketAddr> = lookup_host(address).await.map_err(wrong)?.collect();
    if !has_token && addresses.iter().any(|a| !a.ip().is_loopback()) {
        return Err(ListenError::Wrong(format!(
            "the API would listen on {address} for other machines without a token: set MILLSTREAM_API__TOKEN, or listen on 127.0.0.1"
        )));
    }
    let refused = |e: std::io::Error| {
        ListenError::Refused(format!(
            "cannot listen on {address} ({e}): choose another address with --listen"
        ))
    };
    TcpListener::bind(addresses.as_slice())
        .await
        .map_err(refused)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn without_a_token_only_this_machine_is_listened_to() {
        // S01
        for address in ["0.0.0.0:0", "[::]:0"] {
            assert!(
                matches!(listen(address, false).await, Err(ListenError::Wrong(m)) if m.contains("MILLSTREAM_API__TOKEN")),
                "{address}"
            );
        }
        assert!(listen("127.0.0.1:0", false).await.is_ok());
        assert!(listen("0.0.0.0:0", true).await.is_ok());
        assert!(matches!(
            listen("nonsense", true).await,
            Err(ListenError::Wrong(_))
        ));
    }
}
