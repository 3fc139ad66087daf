//! The bearer token. Asked of every request but the probes; a wrong one and a missing one get the same answer, whether the
//! path exists or not.

use axum::{
    extract::{Request, State},
    http::header::AUTHORIZATION,
    middleware::Next,
    response::Response,
};
use sha2::{Digest, Sha256};

use super::{Api, problem::Problem};

/// Probes of orchestrators carry no token, and tell nothing.
const OPEN: [&str; 2] = ["/livez", "/readyz"];

/// The token's hash: comparing hashes in full tells nothing about how much of a guess was right.
pub(super) struct Token([u8; 32]);

impl Token {
    pub(super) fn new(token: &str) -> Self {
        Self(Sha256::digest(token).into())
    }

    fn is(&self, guess: &str) -> bool {
        let guess: [u8; 32] = Sha256::digest(guess).into();
        self.0
            .iter()
            .zip(guess)
            .fold(0, |different, (a, b)| different | (a ^ b))
            == 0
    }
}

pub(super) async fn check(
    State(api): State<Api>,
    request: Request,
    next: Next,
) -> Result<Response, Problem> {
    let Some(token) = &api.0.token else {
        return Ok(next.run(request).await);
    };
    let header = request
        .headers()
        .get(AUTHORIZATION)
        .and_then(|value| value.to_str().ok());
    let guess = header
        .and_then(|text| text.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
    let known = guess.is_some_and(|(_, guess)| token.is(guess.trim()));
    if known || OPEN.contains(&request.uri().path()) {
        return Ok(next.run(request).await);
    }
    Err(Problem::unauthorized())
}

#[cfg(test)]
mod tests {
    use super::Token;

    #[test]
    fn only_the_whole_token_is_the_token() {
        // S02
        let token = Token::new("s3cret");
        assert!(token.is("s3cret"));
        for wrong in ["", "s3cre", "s3cret ", "S3cret"] {
            assert!(!token.is(wrong), "{wrong:?}");
        }
    }
}
