//! rowcrew.example.toml says what is true: every key, at its default.

use super::*;

/// The example with every setting in force, its secret file put where it can be read.
fn example_uncommented(dir: &Dir) -> String {
    let secret = dir.write("secret", "s3cret");
    let lines = Config::example().lines().map(|line| match line.strip_prefix('#') {
        Some(setting) if !setting.is_empty() && !setting.starts_with(' ') => setting,
        _ => line,
    });
    let url = dir.write("url", "postgres://reports@db/reports");
    let text = lines.collect::<Vec<_>>().join("\n");
    text.replace("/run/secrets/mail_hook", &secret.display().to_string())
        .replace("/run/secrets/reports_url", &url.display().to_string())
}

#[test]
fn the_example_as_it_is_changes_nothing() {
    let config = file(Config::example()).expect("lawful");
    assert_eq!(serde_json::to_value(&config).unwrap(), serde_json::to_value(defaults()).unwrap());
}

#[test]
fn the_example_has_every_key_at_its_default_and_no_other() {
    let text = example_uncommented(&Dir::new());
    let example = toml::from_str::<toml::Table>(&text).expect("TOML");
    let Ok(Value::Object(all)) = serde_json::to_value(defaults()) else { panic!("a table") };
    for (section, default) in &all {
        let given = serde_json::to_value(example.get(section)).unwrap();
        // What has no default, and what is the user's own, cannot be compared.
        if default.is_null() || section == "handlers" {
            assert!(!given.is_null(), "{section} is missing");
        } else {
            assert_eq!(&given, default, "{section}");
        }
    }
}

#[test]
fn the_example_has_every_key_of_every_handler() {
    let dir = Dir::new();
    let text = example_uncommented(&dir);
    let config = file(&text).expect("lawful, and without unknown keys");
    let plain = file("[handlers.k]\ntype = 'noop'").expect("lawful");
    let mail = &config.handlers["email.send"];
    assert_eq!(mail.queue, plain.handlers["k"].queue);
    assert_eq!(mail.job_defaults(), plain.handlers["k"].job_defaults());
    assert_eq!(mail.job_defaults(), crate::JobDefaults::default());
    for handler in config.handlers.values() {
        let Ok(Value::Object(keys)) = serde_json::to_value(handler) else { panic!("a table") };
        for key in keys.keys() {
            let given = |line: &str| line.trim_start_matches(['#', ' ']).starts_with(&format!("{key} = "));
            assert!(text.lines().any(given), "{key} is missing");
        }
    }
}
