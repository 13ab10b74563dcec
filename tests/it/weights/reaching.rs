//! Who is reached, and who sees a token.

use std::{
    io,
    net::IpAddr,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use bonafide::{api::Reason, weights::Names};
use futures::future::BoxFuture;
use localcluster::hub::{Faults, Logged};

use super::*;

const FILES: [(&str, &[u8]); 2] = [("config.json", b"{}"), ("model.gguf", b"GGUF and more")];

async fn read(
    resolver: &Resolver,
    place: &Place,
    credentials: Option<&Credentials>,
) -> Result<Vec<u8>, bonafide::weights::SourceError> {
    resolver.read(&source(), &place.commit(), &"model.gguf".parse().unwrap(), 13, credentials).await
}

fn with_token(requests: &[Logged]) -> usize {
    requests.iter().filter(|request| request.header("authorization").is_some()).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_token_is_sent_to_the_hub_and_never_to_where_it_redirects() {
    let place = Place::with(&FILES, |options| {
        options.cdn = Some("127.0.0.1:0".parse().unwrap());
        options.tokens = vec!["hf_right".to_owned()];
        options.private = vec![REPOSITORY.to_owned()];
    })
    .await;
    let cdn = place.hub.cdn.unwrap();
    let resolver = Resolver::new(place.table(&[&cdn.to_string()])).unwrap();
    // The Secret names the other port too: still nothing follows a redirect.
    let token = credentials("hf_right", "127.0.0.1");
    resolver.resolve(&source(), None, Some(&token)).await.unwrap();
    assert_eq!(read(&resolver, &place, Some(&token)).await.unwrap(), b"GGUF and more");
    let (at_cdn, at_hub): (Vec<_>, Vec<_>) = place.hub.requests().into_iter().partition(|request| request.port == cdn.port());
    assert_eq!((at_cdn.len(), with_token(&at_cdn)), (1, 0));
    assert_eq!((at_hub.len(), with_token(&at_hub)), (3, 3));
    assert_eq!(at_hub[0].header("authorization"), Some("Bearer hf_right"));
    assert!(at_hub[0].header("user-agent").unwrap().starts_with("bonafide/"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ranges_of_a_file_are_asked_for_without_the_token_where_the_hub_led_to() {
    // More ranges than are asked for at once: the later ones go where the first ones were led to.
    let model = noise(20 << 20, 17);
    let files: [(&str, &[u8]); 1] = [("model.gguf", &model)];
    let place = Place::with(&files, |options| {
        options.cdn = Some("127.0.0.1:0".parse().unwrap());
        options.tokens = vec!["hf_right".to_owned()];
        options.private = vec![REPOSITORY.to_owned()];
    })
    .await;
    let cdn = place.hub.cdn.unwrap();
    let resolver = Resolver::new(place.table(&[&cdn.to_string()])).unwrap();
    let into = tempfile::tempdir().unwrap();
    // The Secret names the other port too.
    let job = Job { credentials: Some(credentials("hf_right", "127.0.0.1")), ..job(&place, &files, into.path()) };
    let (outcome, _) = fetch(resolver, job).await;
    assert!(matches!(outcome, Outcome::Complete { .. }), "{outcome:?}");
    let at_cdn: Vec<_> = place.hub.requests().into_iter().filter(|request| request.port == cdn.port()).collect();
    let at_hub = place.file_requests().len() - at_cdn.len();
    assert!(at_cdn.len() >= 20 && at_hub < 20, "{} there, {at_hub} at the hub", at_cdn.len());
    assert_eq!(with_token(&at_cdn), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_to_a_private_address_reaches_nobody_unless_the_table_names_it() {
    let place = Place::new(&FILES).await;
    let victim = Place::new(&FILES).await;
    let port = victim.hub.addr.port();
    let mapped = format!("http://[::ffff:127.0.0.1]:{port}");
    for target in [victim.hub.url(), format!("http://localhost:{port}"), mapped, format!("http://2130706433:{port}")] {
        place.hub.set_faults(Faults { redirect: Some(target.clone()), ..Faults::default() });
        let error = read(&place.resolver(), &place, None).await.unwrap_err();
        assert_eq!(error.problem.reason, Reason::HostNotAllowed, "{target}: {error}");
        assert!(error.problem.message.contains("allowedHosts"), "{error}");
    }
    assert_eq!(victim.hub.requests().len(), 0);
    place.hub.set_faults(Faults { redirect: Some(victim.hub.url()), ..Faults::default() });
    for allowed in [victim.hub.addr.to_string(), "127.0.0.1".to_owned()] {
        let resolver = Resolver::new(place.table(&[&allowed])).unwrap();
        assert_eq!(read(&resolver, &place, None).await.unwrap(), b"GGUF and more", "{allowed}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_to_something_other_than_http_is_refused() {
    let place = Place::new(&FILES).await;
    for target in ["file:///etc/passwd?", "ftp://example.org", "http://user:secret@example.org"] {
        place.hub.set_faults(Faults { redirect: Some(target.to_owned()), ..Faults::default() });
        let error = read(&place.resolver(), &place, None).await.unwrap_err();
        assert_eq!(error.problem.reason, Reason::SourceInvalid, "{target}");
        assert!(!error.to_string().contains("secret"), "{error}");
    }
    place.hub.set_faults(Faults { redirect: Some(place.hub.url()), ..Faults::default() });
    let error = read(&place.resolver(), &place, None).await.unwrap_err();
    assert!(error.problem.message.contains("more than eight redirects"), "{error}");
}

/// A name server that says one thing first and another afterwards.
struct Rebinding {
    answers: Mutex<Vec<Vec<IpAddr>>>,
    asked: AtomicUsize,
}

impl Rebinding {
    fn new(answers: &[&[&str]]) -> Arc<Self> {
        let parse = |addresses: &&[&str]| addresses.iter().map(|address| address.parse().unwrap()).collect();
        Arc::new(Self { answers: Mutex::new(answers.iter().map(parse).collect()), asked: AtomicUsize::new(0) })
    }
}

impl Names for Rebinding {
    fn addresses(&self, _: &str) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> {
        self.asked.fetch_add(1, Relaxed);
        let mut answers = self.answers.lock().unwrap();
        let answer = if answers.len() > 1 { answers.remove(0) } else { answers[0].clone() };
        Box::pin(async move { Ok(answer) })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_changes_its_address_after_a_look_reaches_no_private_server() {
    let place = Place::new(&FILES).await;
    let victim = Place::new(&FILES).await;
    let target = format!("http://cdn.example:{}", victim.hub.addr.port());
    place.hub.set_faults(Faults { redirect: Some(target), ..Faults::default() });
    let timeouts = Timeouts { connect: Duration::from_millis(300), read: Duration::from_secs(5) };
    // Public at first and private from then on; and both at once.
    let changing = Rebinding::new(&[&["192.88.98.1"], &["127.0.0.1"]]);
    let resolver = Resolver::with(place.table(&[]), timeouts, Arc::clone(&changing) as Arc<dyn Names>).unwrap();
    let first = read(&resolver, &place, None).await.unwrap_err();
    assert_eq!(
        first.problem.reason,
        Reason::SourceUnavailable,
        "the public address was connected to, and nobody is there: {first}"
    );
    let second = read(&resolver, &place, None).await.unwrap_err();
    assert_eq!(second.problem.reason, Reason::HostNotAllowed, "{second}");
    assert_eq!(changing.asked.load(Relaxed), 2, "each connection looks once, and goes where that look says");
    let mixed = Rebinding::new(&[&["192.88.98.1", "127.0.0.1"]]);
    let resolver = Resolver::with(place.table(&[]), timeouts, mixed).unwrap();
    assert_eq!(read(&resolver, &place, None).await.unwrap_err().problem.reason, Reason::HostNotAllowed);
    assert_eq!(victim.hub.requests().len(), 0);
    let resolver = Resolver::with(place.table(&["*.example"]), timeouts, Rebinding::new(&[&["127.0.0.1"]])).unwrap();
    assert_eq!(read(&resolver, &place, None).await.unwrap(), b"GGUF and more", "the same name, named by the administrator");
}

#[tokio::test(flavor = "multi_thread")]
async fn mirrors_serve_the_owners_they_stand_in_for() {
    let hub = Place::new(&FILES).await;
    let mirror = Place::new(&FILES).await;
    let table =
        serde_json::json!({"hf": {"endpoint": hub.hub.url()}, "mirrors": [{"from": "hf://acme/", "to": mirror.hub.url()}]});
    let resolver = Resolver::new(Sources::parse(&table.to_string()).unwrap()).unwrap();
    resolver.resolve(&source(), None, None).await.unwrap();
    assert_eq!((hub.hub.requests().len(), mirror.hub.requests().len()), (0, 2));
    let _ = resolver.resolve(&"hf://other/x".parse().unwrap(), None, None).await;
    assert_eq!((hub.hub.requests().len(), mirror.hub.requests().len()), (1, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_is_trusted_with_the_authority_of_the_table_and_not_without() {
    let place = Place::new(&FILES).await;
    let (port, authority) = tls_before(place.hub.addr).await;
    let endpoint = format!("https://127.0.0.1:{port}");
    let table = |ca: Option<&str>| {
        Sources::parse(&serde_json::json!({"hf": {"endpoint": endpoint, "caBundle": ca}}).to_string()).unwrap()
    };
    let error = Resolver::new(table(None)).unwrap().resolve(&source(), None, None).await.unwrap_err();
    assert_eq!(error.problem.reason, Reason::SourceUnavailable);
    assert!(error.problem.message.contains("TLS") && error.problem.message.contains("caBundle"), "{error}");
    let resolver = Resolver::new(table(Some(&authority))).unwrap();
    assert_eq!(resolver.resolve(&source(), None, None).await.unwrap().files.len(), 2);
    assert_eq!(Resolver::new(table(Some("no PEM"))).err().unwrap().reason, Reason::InvalidSpec);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_from_tls_to_none_is_followed_only_to_hosts_of_the_table_and_without_the_token() {
    let place = Place::with(&FILES, |options| options.tokens = vec!["hf_right".to_owned()]).await;
    let plain = Place::new(&FILES).await;
    let (port, authority) = tls_before(place.hub.addr).await;
    place.hub.set_faults(Faults { redirect: Some("http://plain.example:1".to_owned()), ..Faults::default() });
    let table = |allowed: &[String]| {
        let table = serde_json::json!({
            "hf": {"endpoint": format!("https://127.0.0.1:{port}"), "caBundle": authority},
            "allowedHosts": allowed,
        });
        Sources::parse(&table.to_string()).unwrap()
    };
    let token = credentials("hf_right", "127.0.0.1");
    let error = read(&Resolver::new(table(&[])).unwrap(), &place, Some(&token)).await.unwrap_err();
    assert_eq!(error.problem.reason, Reason::HostNotAllowed);
    assert!(error.problem.message.contains("plain.example"), "{error}");
    assert_eq!(with_token(&place.hub.requests()), 1, "over TLS the hub may see it");
    place.hub.set_faults(Faults { redirect: Some(plain.hub.url()), ..Faults::default() });
    let resolver = Resolver::new(table(&[plain.hub.addr.to_string()])).unwrap();
    assert_eq!(read(&resolver, &place, Some(&token)).await.unwrap(), b"GGUF and more");
    assert!(!plain.hub.requests().is_empty());
    assert_eq!(with_token(&plain.hub.requests()), 0);
}
