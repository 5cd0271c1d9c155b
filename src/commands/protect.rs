//! `onnxseal protect`

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use onnxseal_core::{
    self as core, Destination, Identity, Location, There, folder_of, generate_identity,
};

use super::plan;
use crate::cli::Protect;
use crate::exit::usage;
use crate::progress::Bar;
use crate::render;
use crate::text::{few, note, tell};

pub fn run(args: &Protect) -> Result<()> {
    let protecting = &args.protecting;
    let mut options = protecting.read(false)?;
    options.external_data.clone_from(&args.external_data);
    let target = &match &args.output {
        Some(output) => output.for_output_of(&args.model)?,
        None => args.model.clone(),
    };
    #[cfg(feature = "fingerprint")]
    let model = &super::fingerprint::marked(&args.model, &args.mark)?;
    #[cfg(not(feature = "fingerprint"))]
    let model = &args.model;
    let mut new_identity = None;
    let recipients = match protecting.recipients.read()? {
        found if !found.is_empty() => found,
        _ => {
            // Plan first, so that a model that cannot be protected gets no key.
            if !protecting.repack {
                let report = core::plan(&args.model, &options.policy)?;
                plan::check(&args.model, report.violations)?;
            }
            let refused = |why| {
                let text =
                    "name a recipient with --recipient: a new identity would go beside the output";
                Err(usage(format!("{text}, {why}")))
            };
            let Location::File(target) = target else {
                return refused("and secrets do not belong in an object store");
            };
            if There::at(target).map_err(core::Error::Store)? == There::Stream {
                return refused("which is impossible for a stream");
            }
            let identity = generate_identity();
            let recipients = (protecting.recipients).of_new_identity(&identity.recipient())?;
            new_identity = Some(write_beside(target, &identity)?);
            recipients
        }
    };

    let bar = Bar::new();
    let output = (!args.in_place).then_some(target);
    let destination = Destination::new(output, args.output_options.core());
    let protected = core::protect(model, destination, &recipients, &options, &bar);
    drop(bar);
    if let (Err(_), Some(path)) = (&protected, &new_identity) {
        // The output stays as it was, so no key is lost.
        let _ = fs::remove_file(path);
    }
    let report = protected?;
    // With --quiet too: a forgotten recipient would put a secret beside the model without a word.
    if let Some(path) = new_identity {
        note(&format!(
            "no recipient was given, so a new identity is in {}\n\
             keep it secret and apart from the model; whoever has it can open the model",
            path.display()
        ));
    }
    if let ([_, new @ ..], [_, old @ ..]) = (&*report.files, &*report.original_files) {
        tell(&format!(
            "the protected model has external data of its own: {}\n\
             `unprotect` restores the original names",
            few(new)
        ));
        if args.in_place {
            tell(&format!(
                "warning: the original weights are still in clear beside the model: {}\n\
                 remove them once no other model needs them",
                few(old)
            ));
        }
    }
    if let Some(done) = report.repacked {
        tell(&format!(
            "the protected model is a rewritten one, equal in every value: {} tensor(s) moved to raw_data, \
             {} byte(s) outside all tensors are zeros\n`unprotect` gives the rewritten model",
            done.tensors, done.zeroed_bytes
        ));
    }
    render::report(report, &args.view)
}

/// Writes the identity file for one output. Returns its path.
fn write_beside(output: &Path, identity: &Identity) -> Result<PathBuf> {
    let mut path = output.as_os_str().to_owned();
    path.push(".identity.txt");
    let path = PathBuf::from(path);
    let folder = folder_of(&path);
    fs::create_dir_all(folder)
        .with_context(|| format!("cannot create folder {}", folder.display()))?;
    core::write_key(&path, &identity.to_file_text())?;
    Ok(path)
}
