//! The hosts and addresses that a URL from a payload may reach.

use std::net::IpAddr;

use ipnet::IpNet;
use reqwest::Url;

use super::is_public;

/// What the operator allows: names, and networks beside the public internet.
#[derive(Debug, Clone, Default)]
pub struct HostRules {
    hosts: Vec<Pattern>,
    networks: Vec<IpNet>,
}

#[derive(Debug, Clone)]
struct Pattern {
    name: Name,
    port: Port,
}

#[derive(Debug, Clone)]
enum Name {
    Any,
    /// `*.example.org`: every name under it, with the dot it begins with.
    Under(String),
    /// A name or an address, as a parsed URL has it.
    Exactly(String),
}

#[derive(Debug, Clone, Copy)]
enum Port {
    /// That of the scheme.
    Usual,
    Any,
    Only(u16),
}

impl HostRules {
    /// Reads `allow_hosts` and `allow_networks`. A host is a name, `*.name` for all names under it, or `*`; with
    /// `:port` or `:*` after it where it is not the scheme's own. A network is an address and a prefix length.
    pub fn parse(hosts: &[String], networks: &[String]) -> Result<Self, String> {
        Ok(Self {
            hosts: hosts.iter().map(|text| Pattern::parse(text)).collect::<Result<_, _>>()?,
            networks: networks.iter().map(|text| network(text)).collect::<Result<_, _>>()?,
        })
    }

    /// Whether no host at all is allowed.
    pub fn is_empty(&self) -> bool {
        self.hosts.is_empty()
    }

    /// Whether every public host is allowed.
    pub fn is_open(&self) -> bool {
        self.hosts.iter().any(|pattern| matches!(pattern.name, Name::Any))
    }

    /// Looks at a URL's host and port; what the name leads to is asked later, with [`HostRules::allow_address`].
    pub fn allow_url(&self, url: &Url) -> Result<(), String> {
        let host = url.host_str().ok_or("no host")?;
        let fits = |pattern: &Pattern| pattern.name.fits(host) && pattern.port.fits(url);
        if !self.hosts.iter().any(fits) {
            let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
            return Err(format!("host {host}{port} is not in allow_hosts"));
        }
        match host.trim_matches(['[', ']']).parse() {
            Ok(address) => self.allow_address(address),
            Err(_) => Ok(()),
        }
    }

    /// Looks at an address that is about to be dialled.
    pub fn allow_address(&self, address: IpAddr) -> Result<(), String> {
        if is_public(address) || self.networks.iter().any(|network| network.contains(&address)) {
            return Ok(());
        }
        Err(format!("address {address} is not public, and in no network of allow_networks"))
    }
}

impl Pattern {
    fn parse(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "has {text:?}: expected a host as api.example.org, *.example.org, *, or with a port as host:8443"
            )
        };
        let (name, port) = match text.rsplit_once(':') {
            Some((name, "*")) => (name, Port::Any),
            Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) && !name.ends_with(':') => {
                (name, Port::Only(port.parse().map_err(|_| wrong())?))
            }
            _ => (text, Port::Usual),
        };
        let (under, name) = match name.strip_prefix("*.") {
            Some(name) => (true, name),
            None => (false, name),
        };
        if name == "*" && !under {
            return Ok(Self { name: Name::Any, port });
        }
        // Names are compared as a parsed URL has them: lower case, and other alphabets in their ASCII form.
        let url = Url::parse(&format!("http://{name}/")).map_err(|_| wrong())?;
        let host = url.host_str().filter(|_| url.as_str().trim_end_matches('/').matches('/').count() == 2);
        let host = host.ok_or_else(wrong)?.trim_end_matches('.').to_owned();
        let plain = !host.is_empty()
            && !name.contains(['@', '?', '#', '*'])
            && url.port().is_none()
            && (!under || url.domain().is_some());
        if !plain {
            return Err(wrong());
        }
        let name = if under { Name::Under(format!(".{host}")) } else { Name::Exactly(host) };
        Ok(Self { name, port })
    }
}

impl Name {
    fn fits(&self, host: &str) -> bool {
        // A dot at the end names the same host.
        let host = host.strip_suffix('.').unwrap_or(host);
        match self {
            Self::Any => true,
            Self::Exactly(name) => host == name,
            Self::Under(suffix) => host.len() > suffix.len() && host.ends_with(suffix.as_str()),
        }
    }
}

impl Port {
    fn fits(self, url: &Url) -> bool {
        match self {
            // A URL does not repeat the port of its scheme.
            Self::Usual => url.port().is_none(),
            Self::Any => true,
            Self::Only(port) => url.port_or_known_default() == Some(port),
        }
    }
}

fn network(text: &str) -> Result<IpNet, String> {
    let network = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
    network.map_err(|_| format!("has {text:?}: expected a network as 10.0.0.0/8 or fd00::/8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(hosts: &[&str], networks: &[&str]) -> HostRules {
        let owned = |list: &[&str]| list.iter().map(|&text| text.to_owned()).collect::<Vec<_>>();
        HostRules::parse(&owned(hosts), &owned(networks)).expect("good rules")
    }

    fn allows(rules: &HostRules, url: &str) -> bool {
        rules.allow_url(&Url::parse(url).expect(url)).is_ok()
    }

    #[test]
    fn a_host_is_allowed_by_name_and_port() {
        let rules =
            rules(&["API.example.org", "*.hooks.example.net", "münchen.example:8443", "9.9.9.9:*"], &[]);
        for url in [
            "https://api.example.org/a",
            "http://api.example.org./a",
            "https://API.EXAMPLE.ORG:443",
            "https://a.hooks.example.net",
            "https://a.b.hooks.example.net",
            "https://xn--mnchen-3ya.example:8443/",
            "http://9.9.9.9:99",
        ] {
            assert!(allows(&rules, url), "{url}");
        }
        for url in [
            "https://api.example.org:8443",
            "http://api.example.org:443",
            "https://example.org",
            "https://evilapi.example.org",
            "https://api.example.org.evil.test",
            "https://hooks.example.net",
            "https://xhooks.example.net",
            "https://münchen.example/",
            "https://9.9.9.8/",
        ] {
            assert!(!allows(&rules, url), "{url}");
        }
        assert!(!allows(&HostRules::default(), "https://api.example.org"));
    }

    #[test]
    fn any_host_means_any_public_host() {
        let open = rules(&["*"], &["10.1.0.0/16", "fd00::/8"]);
        for url in ["https://example.org", "https://1.1.1.1", "http://10.1.2.3", "http://[fd00::1]"] {
            assert!(allows(&open, url), "{url}");
        }
        // However an address is written, a parsed URL has it in its plain form.
        for url in [
            "http://127.0.0.1",
            "http://127.1",
            "http://0x7f.1",
            "http://0177.0.0.1",
            "http://2130706433",
            "http://127.0.0.1.",
            "http://１２７.０.０.１",
            "http://[::ffff:127.0.0.1]",
            "http://[::1]",
            "http://0",
            "http://10.2.0.1",
            "http://169.254.169.254/latest",
            "http://[64:ff9b::7f00:1]",
            "https://example.org:99",
        ] {
            assert!(!allows(&open, url), "{url}");
        }
    }

    #[test]
    fn a_rule_that_cannot_be_meant_is_refused() {
        for bad in [
            "",
            "a b",
            "https://x.org",
            "x.org/a",
            "u@x.org",
            "x.org?",
            "*.*",
            "*x.org",
            "x:99999",
            "*.1.1.1.1",
            "a:b",
        ] {
            assert!(HostRules::parse(&[bad.to_owned()], &[]).is_err(), "{bad}");
        }
        for bad in ["", "10.0.0.0/33", "example.org"] {
            assert!(HostRules::parse(&[], &[bad.to_owned()]).is_err(), "{bad}");
        }
        assert!(HostRules::parse(&["[::1]:80".to_owned(), "[::1]".to_owned()], &["::1".to_owned()]).is_ok());
    }
}
