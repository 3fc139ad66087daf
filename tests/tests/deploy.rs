//! What stands in `deploy/` and `docs/operations.md` agrees with what the processes export.
//!
//! Dashboards and alerts fail silently when a metric is renamed: a panel without data looks like a quiet
//! day. So names are compared here, from the files as they are shipped. No server is needed; where
//! `promtool` is installed it is asked too.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use millstream_common::metrics::{MetricKind, Metrics};
use serde_json::{Value, json};

const ALERTS: &str = "deploy/prometheus/alerts.yml";
const ALERT_TESTS: &str = "deploy/prometheus/alerts_test.yml";
const DASHBOARD: &str = "deploy/grafana/dashboards/millstream.json";
const OPERATIONS: &str = "docs/operations.md";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: &str) -> Result<String> {
    fs::read_to_string(root().join(path)).with_context(|| format!("cannot read {path}"))
}

fn dashboard() -> Result<Value> {
    Ok(serde_json::from_str(&read(DASHBOARD)?)?)
}

/// The panels that show something; rows only carry a title.
fn panels(dashboard: &Value) -> impl Iterator<Item = &Value> {
    let all = dashboard["panels"].as_array().into_iter().flatten();
    all.filter(|panel| panel["type"] != "row")
}

/// Every JSON and YAML file below `folder`.
fn configuration_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(configuration_files(&path)?);
        } else if path
            .extension()
            .is_some_and(|ext| ["json", "yml", "yaml"].iter().any(|e| ext == *e))
        {
            found.push(path);
        }
    }
    Ok(found)
}

/// The words of `text` that look like a metric of ours. Capitals are environment variables.
fn metric_names(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    words
        .filter(|word| word.starts_with("millstream_"))
        .collect()
}

/// Every name that a query may use: histograms appear as three series each.
fn queryable() -> Result<BTreeSet<String>> {
    let metrics = Metrics::new("test")?;
    let mut names = BTreeSet::new();
    for described in metrics.describe() {
        if described.kind == MetricKind::Histogram {
            names.extend(
                ["_bucket", "_sum", "_count"].map(|suffix| described.name.clone() + suffix),
            );
        } else {
            names.insert(described.name.clone());
        }
    }
    Ok(names)
}

/// The values of a YAML key that stands on lines of its own, such as `- alert: Name`.
fn values_of<'a>(yaml: &'a str, key: &str) -> Vec<&'a str> {
    let value = |line: &'a str| line.trim_start().strip_prefix(key).map(str::trim);
    yaml.lines().filter_map(value).collect()
}

// F52, F62
#[test]
fn every_metric_that_deploy_names_is_exported() -> Result<()> {
    let queryable = queryable()?;
    let files = configuration_files(&root().join("deploy"))?;
    let mut used = 0;
    for path in files {
        let text = fs::read_to_string(&path)?;
        for name in metric_names(&text) {
            ensure!(
                queryable.contains(name),
                "{} names {name}, which nobody exports",
                path.display()
            );
            used += 1;
        }
    }
    ensure!(
        used > 0,
        "no metric is named anywhere: the search looks in the wrong place"
    );
    Ok(())
}

// F52
#[test]
fn every_exported_metric_is_on_the_dashboard() -> Result<()> {
    let text = read(DASHBOARD)?;
    let shown = metric_names(&text);
    for name in Metrics::new("test")?
        .names()
        .iter()
        .filter(|name| name.starts_with("millstream_"))
    {
        ensure!(
            shown.iter().any(|series| series.starts_with(name.as_str())),
            "{name} is on no panel"
        );
    }
    Ok(())
}

// F52
#[test]
fn the_dashboard_can_be_provisioned_and_linked_to() -> Result<()> {
    let dashboard = dashboard()?;
    assert_eq!(dashboard["uid"], "millstream");
    assert_eq!(dashboard["title"], "Millstream");
    assert_eq!(dashboard["refresh"], "30s");
    assert_eq!(dashboard["editable"], false);
    ensure!(dashboard["schemaVersion"].is_u64() && dashboard["tags"][0].is_string());
    let variables = dashboard["templating"]["list"]
        .as_array()
        .context("no variables")?;
    let source = variables
        .iter()
        .find(|v| v["name"] == "datasource")
        .context("no data source variable")?;
    assert_eq!(
        (&source["type"], &source["query"]),
        (&json!("datasource"), &json!("prometheus"))
    );
    Ok(())
}

// F52
#[test]
fn every_panel_is_explained_has_a_unit_and_an_id_of_its_own() -> Result<()> {
    let dashboard = dashboard()?;
    let all = dashboard["panels"].as_array().context("no panels")?;
    let ids: BTreeSet<_> = all
        .iter()
        .filter_map(|panel| panel["id"].as_u64())
        .collect();
    assert_eq!(ids.len(), all.len(), "ids are there and unique");
    for panel in panels(&dashboard) {
        let title = panel["title"].as_str().context("a panel without a title")?;
        for text in [
            &panel["description"],
            &panel["fieldConfig"]["defaults"]["unit"],
        ] {
            ensure!(
                text.as_str().is_some_and(|t| !t.is_empty()),
                "{title} lacks a description or unit"
            );
        }
        for target in panel["targets"]
            .as_array()
            .with_context(|| format!("{title} asks nothing"))?
        {
            ensure!(target["expr"].is_string(), "{title} asks nothing");
            assert_eq!(target["datasource"]["uid"], "${datasource}", "{title}");
        }
        assert_eq!(panel["datasource"]["uid"], "${datasource}", "{title}");
    }
    Ok(())
}

// F52
#[test]
fn the_table_in_the_operations_guide_equals_the_exported_metrics() -> Result<()> {
    let guide = read(OPERATIONS)?;
    let mut documented = BTreeMap::new();
    for row in guide
        .lines()
        .filter(|line| line.starts_with("| `millstream_"))
    {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let [_, name, kind, labels, meaning, _] = cells[..] else {
            anyhow::bail!("not four cells: {row}")
        };
        let told = (kind.to_owned(), labels.replace('`', ""), meaning.to_owned());
        let earlier = documented.insert(name.replace('`', ""), told);
        ensure!(earlier.is_none(), "{name} stands there twice");
    }
    let metrics = Metrics::new("test")?;
    let exported = metrics
        .describe()
        .iter()
        .filter(|d| d.name.starts_with("millstream_"));
    let told = exported.map(|d| {
        (
            d.name.clone(),
            (
                d.kind.as_str().to_owned(),
                d.labels.join(" "),
                d.help.clone(),
            ),
        )
    });
    assert_eq!(documented, told.collect());
    Ok(())
}

// F52
#[test]
fn every_alert_has_a_severity_a_summary_and_a_runbook_that_exists() -> Result<()> {
    let (alerts, guide) = (read(ALERTS)?, read(OPERATIONS)?);
    let names = values_of(&alerts, "- alert:");
    ensure!(!names.is_empty(), "no alerts found");
    let runbooks = values_of(&alerts, "runbook_url:");
    let expected = names
        .iter()
        .map(|name| format!("{OPERATIONS}#{}", name.to_lowercase()));
    assert_eq!(runbooks, expected.collect::<Vec<_>>());
    for name in &names {
        ensure!(
            guide.contains(&format!("\n### {name}\n")),
            "{name} has no runbook"
        );
    }
    let severities = values_of(&alerts, "severity:");
    ensure!(
        severities
            .iter()
            .all(|severity| ["critical", "warning"].contains(severity))
    );
    assert_eq!(
        (severities.len(), values_of(&alerts, "summary:").len()),
        (names.len(), names.len())
    );
    Ok(())
}

// F52
#[test]
fn every_alert_is_tested_firing_and_keeping_quiet() -> Result<()> {
    let (alerts, tests) = (read(ALERTS)?, read(ALERT_TESTS)?);
    for name in values_of(&alerts, "- alert:") {
        for behaviour in ["fires\"", "keeps quiet:"] {
            ensure!(
                tests.contains(&format!("- name: \"{name} {behaviour}")),
                "{name} {behaviour} is not tested"
            );
        }
    }
    Ok(())
}

/// Runs `promtool` with `input` on its standard input. On a machine without it, says so and succeeds.
fn promtool(arguments: &[&str], input: &str) -> Result<()> {
    let mut command = Command::new("promtool");
    command
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = match command.spawn() {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            eprintln!(
                "skipped `promtool {}`: promtool is not installed",
                arguments.join(" ")
            );
            return Ok(());
        }
        started => started?,
    };
    // Taken, so that it is closed when written: promtool reads to the end.
    let written = child
        .stdin
        .take()
        .context("no standard input")?
        .write_all(input.as_bytes());
    let output = child.wait_with_output()?;
    let (stdout, stderr) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    ensure!(
        output.status.success(),
        "promtool {}:\n{stdout}{stderr}",
        arguments.join(" ")
    );
    Ok(written?)
}

fn text_of(path: &Path) -> Result<&str> {
    path.to_str()
        .context("the path of the repository is not UTF-8")
}

// F52
#[test]
fn promtool_accepts_the_alerts_and_their_tests_pass() -> Result<()> {
    promtool(&["check", "rules", text_of(&root().join(ALERTS))?], "")?;
    promtool(&["test", "rules", text_of(&root().join(ALERT_TESTS))?], "")
}

// F52
#[test]
fn promtool_finds_nothing_to_lint_in_a_fresh_process() -> Result<()> {
    promtool(&["check", "metrics"], &Metrics::new("test")?.render())
}

// F52: a query that does not parse shows in Grafana only, so each is checked as a recording rule.
#[test]
fn promtool_parses_every_query_of_the_dashboard() -> Result<()> {
    let dashboard = dashboard()?;
    let targets =
        panels(&dashboard).flat_map(|panel| panel["targets"].as_array().into_iter().flatten());
    let queries = targets.filter_map(|target| target["expr"].as_str());
    let plain = queries.map(|query| {
        query
            .replace("$__rate_interval", "5m")
            .replace("$queue", ".+")
    });
    let rules: Vec<Value> = plain
        .enumerate()
        .map(|(i, expr)| json!({"record": format!("dashboard:query:{i}"), "expr": expr}))
        .collect();
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("dashboard.yml");
    // JSON is YAML.
    fs::write(
        &file,
        json!({"groups": [{"name": "dashboard", "rules": rules}]}).to_string(),
    )?;
    promtool(&["check", "rules", text_of(&file)?], "")
}
