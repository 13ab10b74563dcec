//! `bonafide crd`: the CustomResourceDefinitions.

use std::{path::PathBuf, process::ExitCode};

use super::{USAGE, fail, print};
use crate::api::{crds, render_crd};

/// What `crd` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  bonafide crd | kubectl apply --server-side -f -")]
pub struct CrdArgs {
    /// Write one file for each kind into this directory instead of printing them
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// Prints or writes the definitions.
pub fn run(args: &CrdArgs) -> ExitCode {
    let mut documents = String::new();
    for (file, crd) in crds() {
        let text = match render_crd(&crd) {
            Ok(text) => text,
            Err(error) => return fail(1, format_args!("{file} could not be rendered: {error}")),
        };
        let Some(directory) = &args.out else {
            documents.push_str("---\n");
            documents.push_str(&text);
            continue;
        };
        let path = directory.join(file);
        if let Err(error) = std::fs::create_dir_all(directory).and_then(|()| std::fs::write(&path, text)) {
            return fail(USAGE, format_args!("{} could not be written: {error}", path.display()));
        }
    }
    print(&documents)
}
