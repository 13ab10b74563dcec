//! Building what the cache lacks.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tokio::process::{Child, Command};

use super::recipes::{Recipe, find};
use crate::cache_lock;
use crate::process::last_lines;
use crate::progress::{Estimate, TELL_EVERY, say, spoken};
use crate::{packages, paths};

/// From this much expected work on, the first line says that it is done only once.
const LONG: Duration = Duration::from_secs(120);

/// The path of the program `name`, which is built first when the cache lacks it.
pub async fn path(name: &str) -> Result<PathBuf> {
    ensure(&[name]).await?;
    find(name)?.cached()
}

/// Builds those of the named programs that the cache lacks. Processes that ask for the same program at the same time
/// build it once.
pub async fn ensure(names: &[&str]) -> Result<()> {
    let mut missing = Vec::new();
    for name in names {
        let recipe = find(name)?;
        if !recipe.cached()?.exists() {
            missing.push(recipe);
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    check_go().await?;
    if missing.iter().any(|recipe| recipe.cgo) {
        packages::ensure(packages::CGO).await?;
    }
    let all: Duration = missing.iter().map(|recipe| recipe.typical).sum();
    if all >= LONG {
        say(format_args!(
            "building {} programs from source, about {} on two cores; this is done once, later runs take them from {}",
            missing.len(),
            spoken(all),
            paths::cache()?.join("bin").display()
        ));
    }
    let mut estimate = Estimate::new();
    for (index, recipe) in missing.iter().enumerate() {
        let later = missing.iter().skip(index + 1).map(|recipe| recipe.typical).sum();
        let step = Step { recipe, number: index + 1, of: missing.len(), later };
        let started = Instant::now();
        if step.run(&estimate).await? {
            estimate.done(recipe.typical, started.elapsed());
        }
    }
    Ok(())
}

impl Recipe {
    /// Where the cache has it, once it is built.
    fn cached(&self) -> Result<PathBuf> {
        Ok(paths::cache()?.join("bin").join(self.key()).join(self.name))
    }
}

/// One program of a row of them.
struct Step<'a> {
    recipe: &'a Recipe,
    number: usize,
    of: usize,
    later: Duration,
}

impl Step<'_> {
    /// Builds it, unless another process has done so meanwhile; says whether it was built here.
    async fn run(&self, estimate: &Estimate) -> Result<bool> {
        let recipe = self.recipe;
        let cache = paths::cache()?;
        let _lock = cache_lock::hold(&recipe.key(), &format!("builds {}", recipe.name)).await?;
        let cached = recipe.cached()?;
        if cached.exists() {
            return Ok(false);
        }
        let work = cache.join("tmp").join(recipe.key());
        if work.exists() {
            fs::remove_dir_all(&work).with_context(|| format!("cannot remove {}", work.display()))?;
        }
        let result = self.build_in(&work, estimate).await;
        if let Ok(built) = &result {
            publish(built, &cached)?;
        }
        let _ = fs::remove_dir_all(&work);
        result.map(|_| true)
    }

    /// Builds it in the directory `work`, and says which directory then holds it alone.
    async fn build_in(&self, work: &Path, estimate: &Estimate) -> Result<PathBuf> {
        let recipe = self.recipe;
        let source = work.join("source");
        let built = work.join("built");
        fs::create_dir_all(&source).with_context(|| format!("cannot create {}", source.display()))?;
        for (path, text) in recipe.module.files {
            fs::write(source.join(path), text).with_context(|| format!("cannot write {path} in {}", source.display()))?;
        }
        let logs = paths::cache()?.join("log");
        fs::create_dir_all(&logs).with_context(|| format!("cannot create {}", logs.display()))?;
        let log = logs.join(format!("{}.log", recipe.key()));
        let output = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        let child = Command::new("go")
            .args(recipe.build_arguments())
            .arg("-o")
            .arg(built.join(recipe.name))
            .arg(recipe.package)
            .current_dir(&source)
            .env("CGO_ENABLED", if recipe.cgo { "1" } else { "0" })
            .env("GOWORK", "off")
            .env_remove("GOFLAGS")
            .stdin(Stdio::null())
            .stdout(output.try_clone().context("cannot share the build's log")?)
            .stderr(output)
            .kill_on_drop(true)
            .spawn()
            .context("cannot run go")?;
        let started = Instant::now();
        let status = self.wait(child, estimate).await?;
        if !status.success() {
            bail!(
                "building {} {} failed ({status}). The last lines of {}:\n{}\nRun the same command again once this is \
                 mended; what is already built is kept",
                recipe.name,
                recipe.version(),
                log.display(),
                last_lines(&log, 20)
            );
        }
        say(format_args!("[{}/{}] {} built in {}", self.number, self.of, recipe.name, spoken(started.elapsed())));
        Ok(built)
    }

    async fn wait(&self, mut child: Child, estimate: &Estimate) -> Result<std::process::ExitStatus> {
        let Self { recipe, number, of, later } = self;
        let started = Instant::now();
        let left = |running| spoken(estimate.left(recipe.typical, running, *later));
        let first = format!("[{number}/{of}] building {} {}", recipe.name, recipe.version());
        say(format_args!("{first}; about {} left", left(Duration::ZERO)));
        loop {
            match tokio::time::timeout(TELL_EVERY, child.wait()).await {
                Ok(status) => return status.context("cannot wait for go"),
                Err(_) => {
                    say(format_args!("{first}: {} so far; about {} left", spoken(started.elapsed()), left(started.elapsed())))
                }
            }
        }
    }
}

/// Puts a finished directory in its place in one step, so that the cache never holds half of one.
fn publish(built: &Path, cached: &Path) -> Result<()> {
    let target = cached.parent().context("a cached program has a directory")?;
    let parent = target.parent().context("the cache has a directory")?;
    fs::create_dir_all(parent).with_context(|| format!("cannot create {}", parent.display()))?;
    fs::rename(built, target).with_context(|| format!("cannot move {} to {}", built.display(), target.display()))
}

async fn check_go() -> Result<()> {
    let output = Command::new("go").args(["env", "GOVERSION"]).stdin(Stdio::null()).output().await;
    match output {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => bail!("`go env GOVERSION` failed: {}", String::from_utf8_lossy(&output.stderr).trim()),
        Err(error) => bail!(
            "cannot run `go` ({error}), which the cluster's programs are built with: install Go 1.26 or newer \
             (https://go.dev/dl/), see that `go version` works, and run this again"
        ),
    }
}
