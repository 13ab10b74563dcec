//! The one HTTP client of the sources: which hosts may be reached, who sees a token, how redirects are followed.

use std::{error::Error, fmt, io, net::IpAddr, net::SocketAddr, sync::Arc, time::Duration};

use futures::future::BoxFuture;
use http::{
    HeaderMap, HeaderValue, Method,
    header::{ACCEPT_ENCODING, AUTHORIZATION, LOCATION},
};
use reqwest::Response;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};
use url::Url;

use super::{
    credentials::Credentials,
    hosts::{Site, is_public},
    sources::Sources,
};
use crate::api::{Problem, Reason};

/// The most redirects that are followed for one request.
const MAX_REDIRECTS: usize = 8;

/// How long the network may be silent.
#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    /// Until a connection stands.
    pub connect: Duration,
    /// Between two pieces of an answer, and until its first one.
    pub read: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self { connect: Duration::from_secs(10), read: Duration::from_secs(30) }
    }
}

/// How a host's name becomes addresses.
pub trait Names: Send + Sync + 'static {
    /// All addresses of `host`.
    fn addresses(&self, host: &str) -> BoxFuture<'static, io::Result<Vec<IpAddr>>>;
}

/// The system's own resolver.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemNames;

impl Names for SystemNames {
    fn addresses(&self, host: &str) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> {
        let host = host.to_owned();
        Box::pin(async move { Ok(tokio::net::lookup_host((host, 0)).await?.map(|address| address.ip()).collect()) })
    }
}

/// A client that reaches hosts of the table at any address, and every other host only when all its addresses are public.
#[derive(Clone)]
pub struct Client {
    sources: Arc<Sources>,
    named: reqwest::Client,
    public: reqwest::Client,
}

/// One request.
pub struct Ask<'a> {
    /// `GET` or `HEAD`.
    pub method: Method,
    /// Where it begins.
    pub url: Url,
    /// What is sent to the first host if it may see it, and to no other.
    pub credentials: Option<&'a Credentials>,
    /// Further headers, sent along every redirect.
    pub headers: HeaderMap,
}

/// An answer that is no redirect.
pub struct Answer {
    /// Status, headers and the body still to come.
    pub response: Response,
    /// Where it came from in the end.
    pub url: Url,
    /// What became of the token.
    pub token: Token,
}

/// What became of the token of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Token {
    /// There was none.
    None,
    /// The host may not see it.
    Withheld,
    /// It was sent to the first host.
    Sent,
}

/// Why there is no answer.
#[derive(Debug)]
pub enum Unanswered {
    /// The host is not in the table, and its address is not public.
    Private(Site, IpAddr),
    /// A redirect from an encrypted connection to a plain one.
    Downgrade(Site, Site),
    /// A redirect that leads nowhere we go.
    BadRedirect(Site, &'static str),
    /// The network failed.
    Transport(Site, Cause),
}

/// How the network failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// The name has no address, or the name server does not answer.
    Name(String),
    /// Nobody listens there.
    Refused,
    /// No connection in time.
    ConnectTimeout,
    /// The connection went silent.
    Stalled,
    /// The certificate or the handshake is bad.
    Tls(String),
    /// The connection broke, or what came is no HTTP.
    Broken(String),
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(why) => write!(f, "its name cannot be resolved ({why})"),
            Self::Refused => f.write_str("it refuses connections"),
            Self::ConnectTimeout => f.write_str("no connection within the time limit"),
            Self::Stalled => f.write_str("it stopped sending"),
            Self::Tls(why) => write!(f, "no trustworthy TLS connection ({why})"),
            Self::Broken(why) => write!(f, "the connection broke ({why})"),
        }
    }
}

impl Client {
    /// A client for `sources`. Fails when the table's CA bundle holds no certificate.
    pub fn new(sources: Arc<Sources>, timeouts: Timeouts, names: Arc<dyn Names>) -> Result<Self, Problem> {
        let tls = tls(&sources)?;
        let build = |public_only: bool| {
            reqwest::Client::builder()
                .tls_backend_preconfigured(tls.clone())
                .user_agent(concat!("bonafide/", env!("CARGO_PKG_VERSION")))
                .redirect(reqwest::redirect::Policy::none())
                .no_proxy()
                .referer(false)
                .connect_timeout(timeouts.connect)
                .read_timeout(timeouts.read)
                .dns_resolver(Arc::new(LookUp { names: Arc::clone(&names), public_only }))
                .build()
                .map_err(|error| {
                    Problem::new(Reason::InternalError, format!("The HTTP client cannot be set up: {}.", chain(&error)))
                })
        };
        let (named, public) = (build(false)?, build(true)?);
        Ok(Self { sources, named, public })
    }

    /// The table.
    pub fn sources(&self) -> &Sources {
        &self.sources
    }

    /// Sends a request and follows redirects, at most eight, until an answer that is none.
    pub async fn send(&self, ask: Ask<'_>) -> Result<Answer, Unanswered> {
        let Ask { method, mut url, credentials, mut headers } = ask;
        headers.entry(ACCEPT_ENCODING).or_insert(HeaderValue::from_static("identity"));
        let bearer = credentials.and_then(|credentials| credentials.header_for(&url, &self.sources));
        let token = match (credentials, bearer) {
            (None, _) => Token::None,
            (Some(_), None) => Token::Withheld,
            (Some(_), Some(_)) => Token::Sent,
        };
        if let Some(bearer) = bearer {
            headers.insert(AUTHORIZATION, bearer.clone());
        }
        for _ in 0..=MAX_REDIRECTS {
            let site = site(&url)?;
            let client = self.client_for(&site)?;
            let sent = client.request(method.clone(), url.clone()).headers(headers.clone()).send().await;
            let response = sent.map_err(|error| unanswered(&error, &site))?;
            let Some(next) = redirect(&response) else { return Ok(Answer { response, url, token }) };
            let next = self.follow(&url, &site, next)?;
            if next.origin() != url.origin() {
                headers.remove(AUTHORIZATION);
            }
            url = next;
        }
        Err(Unanswered::BadRedirect(site(&url)?, "more than eight redirects, one after the other"))
    }

    fn client_for(&self, site: &Site) -> Result<&reqwest::Client, Unanswered> {
        if self.sources.names(site) {
            return Ok(&self.named);
        }
        match site.address {
            Some(address) if !is_public(address) => Err(Unanswered::Private(site.clone(), address)),
            _ => Ok(&self.public),
        }
    }

    fn follow(&self, from: &Url, from_site: &Site, location: &HeaderValue) -> Result<Url, Unanswered> {
        let bad = |why| Unanswered::BadRedirect(from_site.clone(), why);
        let location = location.to_str().map_err(|_| bad("a redirect to something that is no URL"))?;
        let mut next = from.join(location).map_err(|_| bad("a redirect to something that is no URL"))?;
        if !matches!(next.scheme(), "http" | "https") {
            return Err(bad("a redirect to something other than http and https"));
        }
        if !next.username().is_empty() || next.password().is_some() {
            return Err(bad("a redirect to a URL with a user or a password"));
        }
        next.set_fragment(None);
        let next_site = site(&next)?;
        if from.scheme() == "https" && next.scheme() == "http" && !self.sources.names(&next_site) {
            return Err(Unanswered::Downgrade(from_site.clone(), next_site));
        }
        Ok(next)
    }
}

fn site(url: &Url) -> Result<Site, Unanswered> {
    let nowhere =
        || Unanswered::BadRedirect(Site { host: url.scheme().to_owned(), port: 0, address: None }, "a URL without a host");
    Site::of(url).ok_or_else(nowhere)
}

fn redirect(response: &Response) -> Option<&HeaderValue> {
    let moved = matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308);
    response.headers().get(LOCATION).filter(|_| moved)
}

/// TLS that trusts the system's authorities and the table's. A system without any can still reach servers without TLS.
fn tls(sources: &Sources) -> Result<ClientConfig, Problem> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(bundle) = &sources.hf.ca_bundle {
        let wrong = || {
            Problem::new(
                Reason::InvalidSpec,
                "sources.hf.caBundle holds no certificate in PEM, or a broken one. Put the certificates of your authority there, each from \
                 -----BEGIN CERTIFICATE----- to -----END CERTIFICATE-----.",
            )
        };
        let certificates: Vec<_> =
            CertificateDer::pem_slice_iter(bundle.as_bytes()).collect::<Result<_, _>>().map_err(|_| wrong())?;
        if certificates.is_empty() {
            return Err(wrong());
        }
        for certificate in certificates {
            roots.add(certificate).map_err(|_| wrong())?;
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let versions = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let versions = versions.map_err(|error| Problem::new(Reason::InternalError, format!("TLS cannot be set up: {error}.")))?;
    Ok(versions.with_root_certificates(roots).with_no_client_auth())
}

/// Our part of the connection: the addresses that it hands out are the ones connected to, so a name that changes its mind
/// between a check and a connection gains nothing.
#[derive(Clone)]
struct LookUp {
    names: Arc<dyn Names>,
    public_only: bool,
}

/// Why a name was not resolved; travels through the HTTP client as the source of its error.
#[derive(Debug, thiserror::Error)]
enum LookUpError {
    #[error("address {0} is not public")]
    Private(IpAddr),
    #[error("{0}")]
    Failed(io::Error),
    #[error("it has no address")]
    Nothing,
}

impl reqwest::dns::Resolve for LookUp {
    fn resolve(&self, name: reqwest::dns::Name) -> reqwest::dns::Resolving {
        let looked_up = self.names.addresses(name.as_str());
        let public_only = self.public_only;
        Box::pin(async move {
            let addresses = looked_up.await.map_err(LookUpError::Failed)?;
            if addresses.is_empty() {
                return Err(LookUpError::Nothing.into());
            }
            if let Some(private) = addresses.iter().find(|address| public_only && !is_public(**address)) {
                return Err(LookUpError::Private(*private).into());
            }
            Ok(Box::new(addresses.into_iter().map(|address| SocketAddr::new(address, 0))) as reqwest::dns::Addrs)
        })
    }
}

fn unanswered(error: &reqwest::Error, site: &Site) -> Unanswered {
    if let Some(LookUpError::Private(address)) = causes(error).find_map(|cause| cause.downcast_ref()) {
        return Unanswered::Private(site.clone(), *address);
    }
    Unanswered::Transport(site.clone(), cause(error))
}

/// What went wrong in the network, in the words that people need.
pub fn cause(error: &reqwest::Error) -> Cause {
    if let Some(failed) = causes(error).find_map(|cause| cause.downcast_ref::<LookUpError>()) {
        return Cause::Name(failed.to_string());
    }
    if let Some(tls) = causes(error).find_map(|cause| cause.downcast_ref::<rustls::Error>()) {
        return Cause::Tls(in_words(&tls.to_string()));
    }
    if error.is_timeout() {
        return if error.is_connect() { Cause::ConnectTimeout } else { Cause::Stalled };
    }
    let refused = |cause: &(dyn Error + 'static)| {
        cause.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
    };
    if causes(error).any(refused) {
        return Cause::Refused;
    }
    // Not the outermost, which repeats the URL: links to storage are signed.
    Cause::Broken(causes(error).skip(1).last().map_or_else(|| "no answer".to_owned(), ToString::to_string))
}

/// What a certificate is refused for, where the library gives only the name of a case.
fn in_words(said: &str) -> String {
    let words = match said {
        said if said.contains("CaUsedAsEndEntity") => {
            "its certificate is an authority's own (CA:TRUE), and a server needs one that an authority has issued to it"
        }
        said if said.ends_with("UnknownIssuer") => "its certificate was issued by an authority that is not known here",
        other => return other.to_owned(),
    };
    format!("{words} ({said})")
}

/// The error and everything under it, also what is wrapped in an `io::Error`, which does not name it as its source.
fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error| {
        let error: &'a (dyn Error + 'static) = *error;
        let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        inner.map(|inner| inner as &(dyn Error + 'static)).or_else(|| error.source())
    })
}

fn chain(error: &(dyn Error + 'static)) -> String {
    causes(error).map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_are_refused_in_words() {
        let words = in_words("invalid peer certificate: Other(OtherError(CaUsedAsEndEntity))");
        assert!(words.starts_with("its certificate is an authority's own (CA:TRUE)"), "{words}");
        assert!(in_words("invalid peer certificate: UnknownIssuer").starts_with("its certificate was issued by an authority"));
        let expired = "invalid peer certificate: certificate expired: verification time 7, but certificate is not valid after 3";
        assert_eq!(in_words(expired), expired);
    }
}
