//! `onnxseal protect`

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use onnxseal_core::{
    self as core, Destination, Location, RepackedRow, There, folder_of, generate_identity,
};

use crate::cli::Protect;
use crate::exit::usage;
use crate::progress::Bar;
use crate::render;
use crate::text::{few, note};

pub fn run(args: &Protect, quiet: bool) -> Result<()> {
    let protecting = &args.protecting;
    let mut options = protecting.read(false)?;
    options.external_data.clone_from(&args.external_data);
    let target = &match &args.output {
        Some(output) => output.for_output_of(&args.model)?,
        None => args.model.clone(),
    };
    let mut new_identity = None;
    let recipients = match protecting.recipients.read(quiet)? {
        found if !found.is_empty() => found,
        _ => {
            // Plan first, so that a model that cannot be protected gets no key.
            if !protecting.repack {
                let violations = core::plan(&args.model, &options.policy)?.violations;
                if !violations.is_empty() {
                    let path = args.model.to_string().into();
                    return Err(core::Error::PolicyNotMet { path, violations }.into());
                }
            }
            let Location::File(target) = target else {
                return Err(usage(
                    "name a recipient with --recipient: a new identity would go beside the output, and secrets do not belong in an object store",
                ));
            };
            if There::at(target).map_err(core::Error::Store)? == There::Stream {
                return Err(usage(
                    "name a recipient with --recipient: a new identity would go beside the output, which is impossible for a stream",
                ));
            }
            let identity = NewIdentity::beside(target)?;
            let recipients = protecting.recipients.of_new_identity(&identity.recipient)?;
            new_identity = Some(identity);
            recipients
        }
    };

    let bar = Bar::new(quiet);
    let output = (!args.in_place).then_some(target);
    let destination = Destination::new(output, args.output_options.core());
    let report = core::protect(&args.model, destination, &recipients, &options, &bar)?;
    drop(bar);
    // With --quiet too: a forgotten recipient would put a secret beside the model without a word.
    if let Some(path) = new_identity.map(NewIdentity::keep) {
        note(&format!(
            "no recipient was given, so a new identity is in {}\n\
             keep it secret and apart from the model; whoever has it can open the model",
            path.display()
        ));
    }
    if quiet {
        return render::report(report, &args.view, quiet);
    }
    if let ([_, new @ ..], [_, old @ ..]) = (&*report.files, &*report.original_files) {
        note(&format!(
            "the protected model has external data of its own: {}\n\
             `unprotect` restores the original names",
            few(new)
        ));
        if args.in_place {
            note(&format!(
                "warning: the original weights are still in clear beside the model: {}\n\
                 remove them once no other model needs them",
                few(old)
            ));
        }
    }
    if let Some(RepackedRow {
        tensors,
        zeroed_bytes,
    }) = report.repacked
    {
        note(&format!(
            "the protected model is a rewritten one, equal in every value: {tensors} tensor(s) moved to raw_data, \
             {zeroed_bytes} byte(s) outside all tensors are zeros\n`unprotect` gives the rewritten model"
        ));
    }
    render::report(report, &args.view, quiet)
}

/// An identity file for one output, removed again unless the output was written. If protecting
/// fails, the output stays as it was, so that no key is lost.
struct NewIdentity {
    path: PathBuf,
    recipient: String,
    kept: bool,
}

impl NewIdentity {
    fn beside(output: &Path) -> Result<NewIdentity> {
        let identity = generate_identity();
        let mut path = output.as_os_str().to_owned();
        path.push(".identity.txt");
        let path = PathBuf::from(path);
        let folder = folder_of(&path);
        fs::create_dir_all(folder)
            .with_context(|| format!("cannot create folder {}", folder.display()))?;
        core::write_key(&path, &identity.to_file_text())?;
        Ok(NewIdentity {
            path,
            recipient: identity.recipient(),
            kept: false,
        })
    }

    fn keep(mut self) -> PathBuf {
        self.kept = true;
        self.path.clone()
    }
}

impl Drop for NewIdentity {
    fn drop(&mut self) {
        if !self.kept {
            let _ = fs::remove_file(&self.path);
        }
    }
}
