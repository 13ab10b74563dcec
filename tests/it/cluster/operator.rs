//! The operator as a process: the program that is shipped, with a kubeconfig and a configuration.

use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

/// Starts the program and tells its process id. When the other end of its standard input is gone, however the test ended,
/// the program ends too.
const GUARD: &str = r#"
exec 3<&0 2>>"$LOG"
"$@" </dev/null >&2 &
pid=$!
echo $pid
(cat <&3 >/dev/null; kill -KILL $pid) 2>/dev/null >&2 &
wait $pid
"#;

/// How the operator is started.
#[derive(Clone, Copy)]
pub struct Start<'a> {
    /// As whom.
    pub kubeconfig: &'a Path,
    /// manager.yaml.
    pub config: &'a Path,
    /// Its name for the Lease.
    pub identity: &'a str,
    /// Where logs go.
    pub logs: &'a Path,
    /// The program, when it is not the one of this release.
    pub program: Option<&'a Path>,
}

/// A running operator. It ends with this value, or with the process of the tests.
pub struct Operator {
    guard: Child,
    process: String,
    log: PathBuf,
    address: SocketAddr,
    kubeconfig: PathBuf,
    config: PathBuf,
    identity: String,
}

impl Operator {
    /// Starts it, and waits until it serves its port.
    pub async fn start(start: Start<'_>) -> Self {
        let log = start.logs.join(format!("operator-{}.log", start.identity));
        let _ = fs::remove_file(&log);
        File::create(&log).unwrap();
        let mut guard = Command::new("sh")
            .args(["-c", GUARD, "sh"])
            .arg(start.program.unwrap_or_else(|| Path::new(env!("CARGO_BIN_EXE_bonafide"))))
            .args(["manager", "--listen", "127.0.0.1:0", "--config"])
            .arg(start.config)
            .env("LOG", &log)
            .env("KUBECONFIG", start.kubeconfig)
            .env("POD_NAME", start.identity)
            .env("POD_NAMESPACE", super::world::SYSTEM)
            // The client says at this level what the API server answered.
            .env("RUST_LOG", "info,kube_client::client=debug")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut process = String::new();
        BufReader::new(guard.stdout.as_mut().unwrap()).read_line(&mut process).unwrap();
        let mut operator = Self {
            guard,
            process: process.trim().to_owned(),
            log,
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            kubeconfig: start.kubeconfig.to_owned(),
            config: start.config.to_owned(),
            identity: start.identity.to_owned(),
        };
        let deadline = Instant::now() + Duration::from_secs(30);
        while operator.address.port() == 0 {
            let log = operator.log();
            let address = log.lines().find(|line| line.contains("serving /healthz")).and_then(|line| line.split_once("address="));
            if let Some((_, address)) = address {
                operator.address = address.split_whitespace().next().unwrap().parse().unwrap();
            }
            assert!(
                Instant::now() < deadline && operator.guard.try_wait().unwrap().is_none(),
                "the operator does not start:\n{log}"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        operator
    }

    /// Starts it anew after it has ended, as a kubelet does: it has the same name. What it logged is kept beside.
    pub async fn again(mut self) -> Self {
        self.ended().await;
        let logs = self.log.parent().unwrap().to_owned();
        let kept = (1..).map(|number| self.log.with_extension(format!("log.{number}"))).find(|kept| !kept.exists()).unwrap();
        fs::rename(&self.log, kept).unwrap();
        Self::start(Start {
            kubeconfig: &self.kubeconfig,
            config: &self.config,
            identity: &self.identity,
            logs: &logs,
            program: None,
        })
        .await
    }

    /// Whether it has ended, by whatever.
    pub fn has_ended(&mut self) -> bool {
        self.guard.try_wait().unwrap().is_some()
    }

    /// What it logged so far.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    /// The last lines that it logged for people.
    pub fn tail(&self) -> String {
        tail(&self.log())
    }

    /// Status and body of one of its pages.
    pub async fn get(&self, page: &str) -> (u16, String) {
        let answer = reqwest::get(format!("http://{}/{page}", self.address)).await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    /// What it wrote so far: `Deployment apply` → number.
    pub async fn writes(&self) -> std::collections::BTreeMap<String, u64> {
        let (_, text) = self.get("metrics").await;
        let counted = text.lines().filter_map(|line| line.strip_prefix("bonafide_api_writes_total{")?.split_once("} "));
        let label =
            |labels: &str, name: &str| labels.split(&format!("{name}=\"")).nth(1).unwrap().split('"').next().unwrap().to_owned();
        counted
            .map(|(labels, number)| (format!("{} {}", label(labels, "kind"), label(labels, "verb")), number.parse().unwrap()))
            .collect()
    }

    /// Sends it a signal: `TERM`, `KILL`.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([&format!("-{name}"), &self.process]).status().unwrap();
        assert!(sent.success());
    }

    /// Waits until it has ended.
    pub async fn ended(&mut self) -> ExitStatus {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            if let Some(status) = self.guard.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "the operator does not end:\n{}", self.tail());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        drop(self.guard.stdin.take());
        let _ = self.guard.wait();
    }
}

/// The last lines of a log that are meant for people.
pub fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().filter(|line| !line.contains(" DEBUG ")).collect();
    lines[lines.len().saturating_sub(30)..].join("\n")
}
