//! What a payload can change of a URL.

use proptest::prelude::*;

use super::*;

fn template(text: &str) -> UrlTemplate {
    UrlTemplate::parse(text).expect(text)
}

fn open() -> HostRules {
    HostRules::parse(&["*".to_owned()], &[]).expect("good rules")
}

fn fill(text: &str, payload: &str) -> Result<String, String> {
    template(text).fill(payload, &open()).map(String::from)
}

#[test]
fn fields_are_escaped_where_they_stand() {
    for (text, payload, url) in [
        ("https://h.example/hook?token=a", "null", "https://h.example/hook?token=a"),
        ("https://h.example/users/{id}/mail", r#"{"id": 7}"#, "https://h.example/users/7/mail"),
        ("https://h.example/{a}-{a}", r#"{"a": "å b"}"#, "https://h.example/%C3%A5%20b-%C3%A5%20b"),
        (
            "https://h.example/{a}",
            r#"{"a": "x?y#z%2F;&=+@:"}"#,
            "https://h.example/x%3Fy%23z%252F%3B%26%3D%2B%40%3A",
        ),
        ("https://h.example/{a}", r#"{"a": "..."}"#, "https://h.example/..."),
        ("https://h.example/v.{a}", r#"{"a": "1"}"#, "https://h.example/v.1"),
        (
            "https://h.example/a?q={u.q}&r={r}",
            r#"{"u": {"q": "a/b&c=d"}, "r": ""}"#,
            "https://h.example/a?q=a%2Fb%26c%3Dd&r=",
        ),
        ("https://{t}.h.example/a", r#"{"t": "acme"}"#, "https://acme.h.example/a"),
        ("{url}", r#"{"url": "https://Other.example/x?y=1"}"#, "https://other.example/x?y=1"),
    ] {
        assert_eq!(fill(text, payload).as_deref(), Ok(url), "{text}");
    }
}

#[test]
fn a_payload_that_fits_no_url_is_told_so_without_its_values() {
    let path = "https://h.example/users/{id}/mail";
    for (text, payload, words) in [
        (path, "{}", "has no field id"),
        (path, r#"{"id": null}"#, "id is null"),
        (path, r#"{"id": ""}"#, "id is empty"),
        (path, r#"{"id": "SECRET/x"}"#, "id holds / or"),
        (path, r#"{"id": "..\\SECRET"}"#, "id holds / or"),
        (path, r#"{"id": "SECRET\r\nx: y"}"#, "id holds a control character"),
        (path, r#"{"id": ".."}"#, "a part of the path . or .."),
        ("https://h.example/a/{id}", r#"{"id": "."}"#, "a part of the path . or .."),
        ("https://h.example/a/.{id}", r#"{"id": "."}"#, "a part of the path . or .."),
        ("https://h.example/a/%2e{id}?x", r#"{"id": "."}"#, "a part of the path . or .."),
        ("https://{id}.h.example/", r#"{"id": "evil.example/"}"#, "id is no part of a host's name"),
        ("https://{id}.h.example/", r#"{"id": "a@b"}"#, "id is no part of a host's name"),
        ("http://127.{id}", r#"{"id": "1"}"#, "not public"),
        ("{id}", r#"{"id": "SECRET"}"#, "id is no URL"),
        ("{id}", r#"{"id": "file:///SECRET"}"#, "has the scheme file"),
        ("{id}", r#"{"id": "http://SECRET@h.example/"}"#, "names a user"),
        ("{id}", r#"{"id": "http://h.example@127.0.0.1/"}"#, "names a user"),
        ("{id}", r#"{"id": "http://h.example\\@127.0.0.1/"}"#, "holds \\"),
        ("{id}", r#"{"id": " http://h.example/"}"#, "holds blanks"),
        ("{id}", r#"{"id": "http://127.0.0.1/"}"#, "not public"),
    ] {
        let fault = fill(text, payload).expect_err(payload);
        assert!(fault.contains(words) && !fault.contains("SECRET"), "{text} {payload}: {fault}");
    }
    let long = format!(r#"{{"id": "{}"}}"#, "x".repeat(URL_BYTES_MAX));
    assert!(fill(path, &long).expect_err("too long").contains("at most"));
    let closed = template("{id}").fill(r#"{"id": "http://h.example/"}"#, &HostRules::default());
    assert!(closed.expect_err("no rules").contains("host h.example is not in allow_hosts"));
}

#[test]
fn a_template_says_what_the_payload_decides() {
    for (text, reach, shown) in [
        ("http://u:p@h.example/a?t=1#f", Reach::Fixed, "http://h.example/a"),
        ("http://u:p@h.example:81/{a}?t=1", Reach::Path, "http://h.example:81/{a}"),
        ("https://h.example?q={q}", Reach::Path, "https://h.example"),
        ("https://{t}.example/{a}", Reach::Host, "https://{t}.example/{a}"),
        ("{url}", Reach::Host, "{url}"),
    ] {
        let template = template(text);
        assert_eq!((template.reach(), template.shown()), (reach, shown), "{text}");
    }
    for (text, words) in [
        ("nowhere", "is no URL"),
        ("ftp://h.example/{a}", "has the scheme ftp"),
        ("{a}/b", "begins with a field"),
        ("{a}{b}", "begins with a field"),
        ("http://h.example/{a", "a brace without its other"),
        ("http://h.example/a}", "a brace without its other"),
        ("http://h.example/{}", "expected a field"),
        ("http://h.example/{a..b}", "expected a field"),
        ("http://h.example/{a b}", "expected a field"),
        ("http://h.example:{a}/", "a field beside a user or in the port"),
        ("http://u:{a}@h.example/", "a field beside a user or in the port"),
        ("http://h.example/#{a}", "never sent"),
        ("http://h.example/../{a}", "has a part . or .."),
        ("http://{a}.1/", "is no URL"),
        ("http:///{a}", "names no host"),
        ("http://\\{a}", "names no host"),
        ("http://\t/{a}", "holds blanks"),
    ] {
        let fault = UrlTemplate::parse(text).expect_err(text);
        assert!(fault.contains(words), "{text}: {fault}");
    }
}

/// Texts that mean something to URLs, and any others.
fn value() -> impl Strategy<Value = String> {
    let odd = prop_oneof![
        Just("."),
        Just(".."),
        Just("/"),
        Just("\\"),
        Just("?"),
        Just("#"),
        Just("@"),
        Just(":"),
        Just("%2e"),
        Just("%2f"),
        Just("\r\n"),
        Just("\t"),
        Just("//"),
        Just("["),
        Just("]"),
        Just("&"),
        Just("a"),
        Just("é"),
        Just("\u{202e}"),
        Just("．"),
        Just("。"),
        Just("／"),
    ];
    prop_oneof![
        proptest::collection::vec(odd, 0..8).prop_map(|parts| parts.concat()),
        "\\PC{0,12}",
        "[ -~]{0,12}",
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100_000))]

    #[test]
    fn no_payload_changes_scheme_host_port_or_the_way_of_a_path(a in value(), b in value()) {
        let template = template("https://user:pw@h.example:8443/x/{a}/y.{b}/z?q={a}&r={b}");
        let payload = serde_json::json!({ "a": a, "b": b }).to_string();
        let Ok(url) = template.fill(&payload, &HostRules::default()) else { return Ok(()) };
        prop_assert_eq!(
            (url.scheme(), url.username(), url.password(), url.host_str(), url.port(), url.fragment()),
            ("https", "user", Some("pw"), Some("h.example"), Some(8443), None)
        );
        let parts: Vec<&str> = url.path_segments().expect("a path").collect();
        prop_assert_eq!(parts.len(), 4);
        prop_assert_eq!((parts[0], parts[3]), ("x", "z"));
        let query: Vec<(String, String)> = url.query_pairs().into_owned().collect();
        prop_assert_eq!(query, [("q".to_owned(), a.clone()), ("r".to_owned(), b.clone())]);
        // What the server decodes is the value, and it is one part of a path.
        let decoded: Vec<(String, String)> =
            Url::parse(&format!("http://h/?{}", parts[1])).expect("a query").query_pairs().into_owned().collect();
        prop_assert_eq!(&decoded, &[(a.clone(), String::new())]);
        prop_assert!(!a.contains(['/', '\\', '\r', '\n']) && a != ".." && a != ".");
    }
}
