//! Servers whose certificates are of a private authority: one way to name it for both, and a message that says it.

use std::{path::PathBuf, sync::Arc};

use millstream_common::config::Secret;
use millstream_tests::{Lab, ask::send, process::run};
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::TlsAcceptor;

/// A certificate for 127.0.0.1, its key, and the authority that signed it. Of no use elsewhere.
fn file(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data/tls")
        .join(name)
}

fn acceptor() -> TlsAcceptor {
    let chain = CertificateDer::pem_file_iter(file("server.pem"))
        .expect("a file")
        .collect::<Result<_, _>>()
        .expect("certificates");
    let key = PrivateKeyDer::from_pem_file(file("server.key")).expect("a key");
    let config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .expect("a certificate and its key");
    Arc::new(config).into()
}

/// Takes TLS in front of a server; before it, for Postgres, the client's question whether there is any. Returns the port.
async fn terminate(to: String, is_postgres: bool) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let (port, acceptor) = (
        listener.local_addr().expect("an address").port(),
        acceptor(),
    );
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let (to, acceptor) = (to.clone(), acceptor.clone());
            tokio::spawn(async move {
                if is_postgres {
                    client.read_exact(&mut [0; 8]).await?;
                    client.write_all(b"S").await?;
                }
                let mut secured = acceptor.accept(client).await?;
                copy_bidirectional(&mut secured, &mut TcpStream::connect(to).await?)
                    .await
                    .map(drop)
            });
        }
    });
    port
}

/// `SCHEME://USER:PASSWORD@HOST:PORT/REST` in its parts: the credentials, the place, the rest.
fn parts(url: &str) -> (&str, &str, &str) {
    let (_, behind) = url.split_once("://").expect("a URL");
    let (credentials, behind) = behind.split_once('@').expect("credentials");
    let (place, rest) = behind.split_once('/').expect("a path");
    (credentials, place, rest)
}

/// A lab whose servers are behind TLS. With the authority in its URLs, or without.
async fn x38_lab(with_ca: bool) -> Lab {
    let mut lab = Lab::new().await;
    let ca = file("ca.pem").display().to_string();
    let (redis, postgres) = (
        lab.config.redis.url.expose().to_owned(),
        lab.config.database.url.expose().to_owned(),
    );
    let (credentials, place, rest) = parts(&redis);
    let port = terminate(place.to_owned(), false).await;
    let named = if with_ca {
        format!("?sslrootcert={ca}")
    } else {
        String::new()
    };
    lab.config.redis.url = Secret::new(format!(
        "rediss://{credentials}@127.0.0.1:{port}/{rest}{named}"
    ));
    let (credentials, place, rest) = parts(&postgres);
    let port = terminate(place.to_owned(), true).await;
    let named = if with_ca {
        format!("&sslrootcert={ca}")
    } else {
        String::new()
    };
    lab.config.database.url = Secret::new(format!(
        "postgres://{credentials}@127.0.0.1:{port}/{rest}?sslmode=verify-full{named}"
    ));
    lab
}

#[tokio::test]
async fn x38_one_name_in_both_urls_makes_a_private_authority_trusted() {
    let lab = x38_lab(true).await;
    let (worker, producer) = (lab.worker().await, lab.producer());
    send(&producer, "noop", "1", 50).await;
    lab.await_count("completed", 50).await;
    assert_eq!(worker.health().readiness().redis, "up");
    let doctor = run(&lab, &["doctor"]).await;
    assert!(
        doctor.status.success(),
        "{}",
        String::from_utf8_lossy(&doctor.stdout)
    );
}

#[tokio::test]
async fn x38_an_authority_that_is_not_trusted_is_told_with_the_way_to_name_it() {
    let mut lab = x38_lab(false).await;
    let told =
        async |lab: &Lab| String::from_utf8_lossy(&run(lab, &["doctor"]).await.stdout).into_owned();
    let text = told(&lab).await;
    for (server, url) in [
        (
            "Postgres at",
            "DATABASE_URL, postgres://…/NAME?sslmode=verify-full&sslrootcert=",
        ),
        ("Redis at", "REDIS_URL, rediss://…/0?sslrootcert="),
    ] {
        assert!(
            text.lines().any(|line| line.contains(server)
                && line.contains(url)
                && !line.contains("is it running")),
            "{server}: {text}"
        );
    }
    lab.config.redis.url = Secret::new(format!(
        "{}?sslrootcert=/nowhere/ca.pem",
        lab.config.redis.url.expose()
    ));
    assert!(
        told(&lab)
            .await
            .contains("/nowhere/ca.pem that REDIS_URL names")
    );
}
