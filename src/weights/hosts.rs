//! Hosts: how they are named in tables and Secrets, and which addresses belong to the public Internet.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

use url::{Host, Url};

/// The host and port that a URL leads to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Site {
    /// The name in lower case without a final dot, or the address without brackets.
    pub host: String,
    /// The port, the scheme's own when the URL names none.
    pub port: u16,
    /// The address when the URL names one instead of a name.
    pub address: Option<IpAddr>,
}

impl Site {
    /// Where `url` leads; nothing when it has no host or its scheme has no port of its own.
    pub fn of(url: &Url) -> Option<Self> {
        let port = url.port_or_known_default()?;
        Some(match url.host()? {
            Host::Domain(name) => Self { host: name.trim_end_matches('.').to_ascii_lowercase(), port, address: None },
            Host::Ipv4(address) => Self { host: address.to_string(), port, address: Some(address.into()) },
            Host::Ipv6(address) => Self { host: address.to_string(), port, address: Some(address.into()) },
        })
    }
}

impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port, .. } = self;
        match (host.contains(':'), port) {
            (true, 80 | 443) => write!(f, "[{host}]"),
            (true, _) => write!(f, "[{host}]:{port}"),
            (false, 80 | 443) => write!(f, "{host}"),
            (false, _) => write!(f, "{host}:{port}"),
        }
    }
}

/// A host as an administrator or a Secret names it: `NAME`, `NAME:PORT`, an address, or `*.SUFFIX`.
///
/// Without a port it stands for every port of that host. `*.SUFFIX` stands for every name below SUFFIX, not for SUFFIX itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPattern {
    /// Lower case; begins with a dot when it is a suffix.
    name: String,
    port: Option<u16>,
}

/// A text that names no host.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} names no host: write NAME, NAME:PORT, an address, or *.SUFFIX, without a scheme or a path")]
pub struct InvalidHost(String);

impl HostPattern {
    /// The longest host name, in bytes (RFC 1035).
    const MAX: usize = 253;

    /// Whether `site` is one of the hosts that this names.
    pub fn matches(&self, site: &Site) -> bool {
        let named = if self.name.starts_with('.') { site.host.ends_with(&self.name) } else { site.host == self.name };
        named && self.port.is_none_or(|port| port == site.port)
    }

    /// Whether it stands for one host only.
    pub fn is_exact(&self) -> bool {
        !self.name.starts_with('.')
    }
}

impl FromStr for HostPattern {
    type Err = InvalidHost;

    fn from_str(text: &str) -> Result<Self, InvalidHost> {
        let invalid = || InvalidHost(text.chars().take(80).collect());
        if let Ok(address) = text.parse::<Ipv6Addr>() {
            return Ok(Self { name: address.to_string(), port: None });
        }
        if let Some(rest) = text.strip_prefix('[') {
            let (address, port) = rest.split_once(']').ok_or_else(invalid)?;
            let address: Ipv6Addr = address.parse().map_err(|_| invalid())?;
            let port = match port.strip_prefix(':') {
                Some(port) => Some(port.parse().map_err(|_| invalid())?),
                None if port.is_empty() => None,
                None => return Err(invalid()),
            };
            return Ok(Self { name: address.to_string(), port });
        }
        let (name, port) = match text.split_once(':') {
            Some((name, port)) => (name, Some(port.parse().map_err(|_| invalid())?)),
            None => (text, None),
        };
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        let (plain, name) = match name.strip_prefix("*.") {
            Some(suffix) => (suffix.to_owned(), format!(".{suffix}")),
            None => (name.clone(), name),
        };
        let label = |label: &str| {
            !label.is_empty() && label.len() <= 63 && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
        };
        if plain.len() > Self::MAX || !plain.split('.').all(label) {
            return Err(invalid());
        }
        Ok(Self { name, port })
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.name.strip_prefix('.'), self.port) {
            (Some(suffix), Some(port)) => write!(f, "*.{suffix}:{port}"),
            (Some(suffix), None) => write!(f, "*.{suffix}"),
            (None, Some(port)) if self.name.contains(':') => write!(f, "[{}]:{port}", self.name),
            (None, Some(port)) => write!(f, "{}:{port}", self.name),
            (None, None) => f.write_str(&self.name),
        }
    }
}

/// Whether `address` belongs to the public Internet, so that whoever made us connect to it gains nothing that an outsider
/// has not got: neither this machine, nor its networks, nor the cluster, nor the cloud's metadata service.
///
/// Addresses that carry another one inside (IPv4-mapped, NAT64) are judged by what they carry; tunnels (6to4, Teredo) and
/// everything reserved are not public. After the IANA special-purpose registries (RFC 6890 and its updates).
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    !matches!(
        (a, b, c),
        (0 | 10 | 127, ..)
            | (100, 64..=127, _)
            | (169, 254, _)
            | (172, 16..=31, _)
            | (192, 0, 0 | 2)
            | (192, 31, 196)
            | (192, 52, 193)
            | (192, 88, 99)
            | (192, 168, _)
            | (192, 175, 48)
            | (198, 18..=19, _)
            | (198, 51, 100)
            | (203, 0, 113)
            | (224..=255, ..)
    )
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    if let Some(inner) = address.to_ipv4_mapped() {
        return is_public_v4(inner);
    }
    let [a, b, c, d, e, f, high, low] = address.segments();
    let inner = || Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
    match (a, b) {
        // NAT64 (RFC 6052): what is reached is the address inside.
        (0x64, 0xff9b) => (c, d, e, f) == (0, 0, 0, 0) && is_public_v4(inner()),
        // Teredo, benchmarking, ORCHID and the other special assignments of 2001::/23, and documentation.
        (0x2001, 0..=0x01ff | 0xdb8) => false,
        (0x2002, _) | (0x3fff, 0..=0x0fff) => false,
        // Global unicast is what has been given out; all else is local, multicast, reserved or to come.
        (0x2000..=0x3fff, _) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site(url: &str) -> Site {
        Site::of(&Url::parse(url).unwrap()).unwrap()
    }

    #[test]
    fn addresses_that_are_not_the_public_internet_are_told_apart() {
        for private in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "127.0.0.1",
            "127.255.255.254",
            "100.64.0.1",
            "100.127.255.255",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "192.0.0.170",
            "192.0.2.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.7",
            "203.0.113.9",
            "224.0.0.1",
            "239.255.255.250",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::127.0.0.1",
            "fe80::1",
            "fec0::1",
            "fc00::1",
            "fd00:ec2::254",
            "ff02::1",
            "2001:db8::1",
            "2002:7f00:1::",
            "2001::1",
            "64:ff9b::a9fe:a9fe",
            "64:ff9b:1::1",
            "100::1",
            "4000::1",
            "3fff::1",
        ] {
            assert!(!is_public(private.parse().unwrap()), "{private}");
        }
        for public in [
            "1.1.1.1",
            "8.8.8.8",
            "100.63.255.255",
            "100.128.0.0",
            "172.15.0.1",
            "172.32.0.1",
            "198.17.0.1",
            "198.20.0.1",
            "223.255.255.1",
            "2606:4700::1111",
            "2a00:1450::1",
            "::ffff:8.8.8.8",
            "64:ff9b::808:808",
        ] {
            assert!(is_public(public.parse().unwrap()), "{public}");
        }
    }

    #[test]
    fn a_pattern_names_a_host_a_port_or_what_is_below_a_suffix() {
        let matches = |pattern: &str, url: &str| pattern.parse::<HostPattern>().unwrap().matches(&site(url));
        assert!(matches("hub.corp", "https://HUB.corp./x"));
        assert!(matches("hub.corp", "http://hub.corp:8080/x"));
        assert!(matches("hub.corp:8080", "http://hub.corp:8080/x"));
        assert!(!matches("hub.corp:8080", "http://hub.corp/x"));
        assert!(!matches("hub.corp", "https://evil-hub.corp/x"));
        assert!(!matches("hub.corp", "https://hub.corp.evil/x"));
        assert!(matches("*.corp", "https://a.b.corp/"));
        assert!(!matches("*.corp", "https://corp/"));
        assert!(!matches("*.corp", "https://evilcorp/"));
        assert!(matches("127.0.0.1:80", "http://127.0.0.1/"));
        assert!(matches("[::1]:8080", "http://[::1]:8080/"));
        assert!(matches("::1", "http://[0:0::1]:8080/"));
    }

    #[test]
    fn what_names_no_host_is_refused() {
        for bad in [
            "",
            "*",
            "*.",
            ".",
            "https://hub.corp",
            "hub.corp/x",
            "hub corp",
            "a..b",
            "hub:port",
            "hub:99999",
            "[::1",
            "[::1]x",
            "a*.b",
            "u@h",
        ] {
            assert!(bad.parse::<HostPattern>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_host_is_written_as_people_write_it() {
        for text in ["hub.corp", "hub.corp:8080", "*.corp", "*.corp:81", "::1", "[::1]:8080"] {
            assert_eq!(text.parse::<HostPattern>().unwrap().to_string(), text);
        }
        assert_eq!(site("https://hub.corp/").to_string(), "hub.corp");
        assert_eq!(site("http://[::1]:81/").to_string(), "[::1]:81");
    }
}
