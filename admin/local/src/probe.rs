//! Whether a server on a loopback port answers, asked in its own protocol with nothing but a TCP connection.
//!
//! It does not log in to Postgres: that the server asks for a password shows that it takes connections.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

/// Loopback answers in microseconds; a server that is still starting may hold the connection for a moment.
const ANSWER_LIMIT: Duration = Duration::from_secs(1);

/// Protocol version 3.0, in the high half of the word.
const POSTGRES_PROTOCOL: u32 = 3 << 16;

/// Whether a Postgres on `port` takes connections for this user and database (a starting one refuses them).
pub(super) fn postgres_answers(port: u16, user: &str, database: &str) -> bool {
    ask(port, &postgres_startup(user, database), 1).is_ok_and(|answer| answer == b"R")
}

/// Whether a Redis on `port` takes this password and has finished loading its data.
pub(super) fn redis_answers(port: u16, password: &str) -> bool {
    const ANSWER: &[u8] = b"+OK\r\n+PONG\r\n";
    let question = format!("AUTH {password}\r\nPING\r\n");
    ask(port, question.as_bytes(), ANSWER.len()).is_ok_and(|answer| answer == ANSWER)
}

/// Length (its own four bytes included), version, then names and values, each ended by a zero byte.
fn postgres_startup(user: &str, database: &str) -> Vec<u8> {
    let mut body = POSTGRES_PROTOCOL.to_be_bytes().to_vec();
    for word in ["user", user, "database", database, ""] {
        body.extend_from_slice(word.as_bytes());
        body.push(0);
    }
    let mut message = (body.len() as u32 + 4).to_be_bytes().to_vec();
    message.append(&mut body);
    message
}

fn ask(port: u16, question: &[u8], answer_bytes: usize) -> io::Result<Vec<u8>> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut stream = TcpStream::connect_timeout(&address, ANSWER_LIMIT)?;
    stream.set_read_timeout(Some(ANSWER_LIMIT))?;
    stream.set_write_timeout(Some(ANSWER_LIMIT))?;
    stream.write_all(question)?;
    let mut answer = vec![0; answer_bytes];
    stream.read_exact(&mut answer)?;
    Ok(answer)
}

#[cfg(test)]
#[allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn the_startup_message_counts_its_own_length() {
        let message = postgres_startup("u", "d");
        assert_eq!(message, b"\0\0\0\x1b\0\x03\0\0user\0u\0database\0d\0\0");
        assert_eq!(message.len(), 0x1b);
    }

    #[test]
    fn a_listener_that_says_nothing_is_no_server() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        assert!(!redis_answers(port, "x"));
        drop(listener);
        assert!(!postgres_answers(port, "u", "d"));
    }
}
