//! Reads along what a Postgres client sends and tells which statements it executes, by their text.
//!
//! A prepared statement is named when it is prepared and only bound by its name later, so the texts are kept per connection. What
//! is not the Postgres protocol (its first byte says so) is not read.

use std::collections::HashMap;

/// A request to encrypt, which is answered "no" here and followed by the start itself.
const SSL_REQUEST: [u8; 4] = 80_877_103_u32.to_be_bytes();

/// The statements of one connection.
#[derive(Default)]
pub(super) struct Statements {
    unread: Vec<u8>,
    phase: Phase,
    texts: HashMap<Vec<u8>, String>,
}

#[derive(Default, PartialEq, Eq)]
enum Phase {
    /// Nothing was read, or only the request to encrypt.
    #[default]
    Start,
    /// Typed messages.
    Messages,
    /// Something else.
    Foreign,
}

impl Statements {
    /// Reads the next bytes; returns the texts of the statements that they execute.
    pub(super) fn read(&mut self, bytes: &[u8]) -> Vec<String> {
        let mut executed = Vec::new();
        if self.phase != Phase::Foreign {
            self.unread.extend_from_slice(bytes);
        }
        while let Some(message) = self.next_message() {
            executed.extend(self.note(&message));
        }
        executed
    }

    /// The next whole message with its type; the first ones have none.
    fn next_message(&mut self) -> Option<Vec<u8>> {
        if self.phase == Phase::Start && self.unread.first().is_some_and(|byte| *byte != 0) {
            self.phase = Phase::Foreign;
            self.unread.clear();
        }
        let type_bytes = usize::from(self.phase == Phase::Messages);
        let length = self.unread.get(type_bytes..type_bytes + 4)?;
        let length = type_bytes + u32::from_be_bytes(length.try_into().ok()?) as usize;
        let message = (self.unread.len() >= length)
            .then(|| self.unread.drain(..length).collect::<Vec<u8>>())?;
        if self.phase == Phase::Start && message.get(4..) != Some(&SSL_REQUEST[..]) {
            self.phase = Phase::Messages;
        }
        Some(message)
    }

    /// What this message executes. Of a Bind it is told too: nobody binds what he does not execute.
    fn note(&mut self, message: &[u8]) -> Option<String> {
        let (kind, body) = (message.first()?, message.get(5..)?);
        let mut words = body.split(|byte| *byte == 0);
        let (first, second) = (words.next()?, words.next());
        match kind {
            b'Q' => Some(String::from_utf8_lossy(first).into_owned()),
            b'P' => {
                self.texts.insert(
                    first.to_vec(),
                    String::from_utf8_lossy(second?).into_owned(),
                );
                None
            }
            b'B' => self.texts.get(second?).cloned(),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u8, body: &[u8]) -> Vec<u8> {
        [&[kind][..], &(body.len() as u32 + 4).to_be_bytes(), body].concat()
    }

    fn session() -> Vec<u8> {
        let start = [
            &12_u32.to_be_bytes()[..],
            &196_608_u32.to_be_bytes(),
            b"user",
        ]
        .concat();
        let ssl = [&8_u32.to_be_bytes()[..], &SSL_REQUEST].concat();
        let messages = [
            message(b'Q', b"BEGIN\0"),
            message(b'P', b"s1\0SELECT 1\0\0\0"),
            message(b'B', b"\0s1\0\0\0"),
            message(b'E', b"\0\0\0\0\0"),
            message(b'Q', b"COMMIT\0"),
        ];
        [ssl, start, messages.concat()].concat()
    }

    #[test]
    fn a_prepared_statement_is_told_when_it_is_bound_however_the_bytes_come() {
        for step in [1, 3, 7, 1000] {
            let mut statements = Statements::default();
            let told: Vec<String> = session()
                .chunks(step)
                .flat_map(|bytes| statements.read(bytes))
                .collect();
            assert_eq!(told, ["BEGIN", "SELECT 1", "COMMIT"], "in steps of {step}");
        }
    }

    #[test]
    fn another_protocol_is_not_read() {
        let mut statements = Statements::default();
        assert!(
            statements.read(b"*1\r\n$4\r\nPING\r\n").is_empty() && statements.unread.is_empty()
        );
    }
}
