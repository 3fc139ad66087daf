//! Tests of the settings.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::{environment::Variable, secret::SECRETS, *};

fn parse(toml: &str) -> Result<Config, String> {
    Config::from_figment(&Figment::from(Toml::string(DEFAULTS)).merge(Toml::string(toml)))
}

#[test]
fn the_defaults_are_valid() {
    assert_eq!(parse("").unwrap().worker.lease_ms, 30_000);
}

#[test]
fn all_faults_are_reported_at_once() {
    let faults = parse("log_format='xml'\n[worker]\nlease_ms=1").unwrap_err();
    assert!(
        faults.contains("lease_ms") && faults.contains("log_format"),
        "{faults}"
    );
}

#[test]
fn an_unknown_key_is_a_fault() {
    assert!(parse("[worker]\nlease=1").unwrap_err().contains("lease"));
}

#[test]
fn lists_may_be_written_with_commas() {
    let config = parse("[http]\nallow='127.0.0.1:9000, 10.0.0.0/8'").unwrap();
    assert_eq!(config.http.allow, ["127.0.0.1:9000", "10.0.0.0/8"]);
}

#[test]
fn secrets_do_not_show_in_debug_output() {
    // F64
    let config = parse("[database]\nurl='postgres://u:canary@h/d'").unwrap();
    assert!(!format!("{config:?}").contains("canary"));
}

/// What looks like a number, a truth value, a list or a quotation, and is a password.
const ODD_SECRETS: [&str; 12] = [
    "1234567890",
    "007",
    "1e5",
    "1.50",
    "-5",
    "0x10",
    "true",
    "[x]",
    "{a=b}",
    "\"quoted\"",
    "'",
    "18446744073709551616",
];

fn with_variable(name: &str, value: &str) -> Result<Config, String> {
    Config::from_figment(&defaults().merge(Variable::of(name, value, &defaults()).unwrap()))
}

fn secret_of<'c>(config: &'c Config, path: &str) -> &'c Secret {
    match path {
        "database.url" => &config.database.url,
        "redis.url" => &config.redis.url,
        "api.token" => &config.api.token,
        "embedding.api_key" => &config.embedding.api_key,
        "analysis.api_key" => &config.analysis.api_key,
        _ => panic!("{path} is a secret of which this test does not know"),
    }
}

#[test]
fn x68_a_secret_is_text_whatever_it_looks_like() {
    for path in SECRETS {
        for text in ODD_SECRETS {
            let variable = format!("MILLSTREAM_{}", path.replace('.', "__").to_uppercase());
            let config = with_variable(&variable, text).unwrap();
            assert_eq!(secret_of(&config, path).expose(), text, "{variable}");
            assert!(
                !format!("{config:?}").contains(text) || text.len() < 5,
                "{path} is printed"
            );
        }
        let (section, key) = path.split_once('.').unwrap();
        let config = parse(&format!("[{section}]\n{key} = 1234567890")).unwrap();
        assert_eq!(secret_of(&config, path).expose(), "1234567890");
    }
}

#[test]
fn x68_text_settings_are_text_and_others_are_not() {
    assert_eq!(
        with_variable("MILLSTREAM_WORKER__NAME", "007")
            .unwrap()
            .worker
            .name,
        "007"
    );
    assert_eq!(
        with_variable("MILLSTREAM_HTTP__ALLOW", "[::1]:9000, 10.0.0.0/8")
            .unwrap()
            .http
            .allow,
        ["[::1]:9000", "10.0.0.0/8"]
    );
    assert_eq!(
        with_variable("MILLSTREAM_WORKER__LEASE_MS", " 4000 ")
            .unwrap()
            .worker
            .lease_ms,
        4000
    );
    assert!(
        with_variable("MILLSTREAM_DIAGNOSTICS", "1")
            .unwrap()
            .diagnostics
    );
    let fault = with_variable("MILLSTREAM_WORKER__LEASE_MS", "soon").unwrap_err();
    assert!(
        fault.contains("soon") && fault.contains("MILLSTREAM_WORKER__LEASE_MS"),
        "{fault}"
    );
}

#[test]
fn x68_a_fault_tells_no_secret_wherever_it_stands() {
    let mut files: Vec<String> = Vec::new();
    for path in SECRETS {
        let (section, key) = path.split_once('.').unwrap();
        for value in [
            "[\"canary\"]",
            "{ a = \"canary\" }",
            "canary",
            "0canary",
            "\"canary",
            "12canary34",
            "'canary\n'",
        ] {
            files.push(format!("[{section}]\n{key} = {value}"));
        }
        files.push(format!("{section} = \"canary\""));
        files.push(format!("[{section}]\n{key} = 1.5e3"));
    }
    for file in files {
        let fault = parse(&file).unwrap_err();
        assert!(
            !fault.contains("canary") && !fault.contains("1500") && !fault.contains("1.5e3"),
            "{file}: {fault}"
        );
        assert!(
            fault.contains("line 2")
                || SECRETS
                    .iter()
                    .any(|path| fault.contains(path.split('.').next().unwrap())),
            "{file}: {fault}"
        );
    }
}

/// The list of secrets is the list of those settings that are hidden when all settings are printed.
#[test]
fn x68_every_hidden_setting_is_among_the_secrets() {
    let hidden = format!("{:?}", parse("").unwrap())
        .matches("(none)")
        .count();
    assert_eq!(hidden, SECRETS.len());
}
