//! The command line of `onnxseal run`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;

use super::shared::{OutFolder, out_folder, size};
use crate::signing::{OpeningArgs, ReaderArgs};

#[derive(Debug, Args)]
#[cfg_attr(not(target_os = "linux"), allow(dead_code))]
pub struct Run {
    /// Protected models, and folders to search for them by content. The program sees other files of
    /// a folder as they are
    #[arg(value_name = "MODEL", required = true)]
    pub models: Vec<PathBuf>,

    #[command(flatten)]
    pub opening: OpeningArgs,

    #[command(flatten)]
    pub reader: ReaderArgs,

    /// Leave models that are not protected as they are; otherwise they are refused (6)
    #[arg(long)]
    pub allow_plain: bool,

    /// Start the program as this user, without capabilities; needs root
    #[arg(long, value_name = "NAME")]
    pub user: Option<String>,

    /// The most memory for the opened models, such as 4G [default: half of the machine's]
    #[arg(long, value_name = "SIZE", value_parser = size, conflicts_with = "into")]
    pub size: Option<u64>,

    /// For systems that allow no mounts: copy the opened MODEL to onnxseal-opened in this folder,
    /// which must be in memory (tmpfs or ramfs), and which nobody else may write to. Without
    /// PROGRAM the copy stays
    #[arg(long, value_name = "FOLDER", value_parser = out_folder())]
    pub into: Option<OutFolder<PathBuf>>,

    /// Accept memory that may be swapped out to a disk without encryption
    #[arg(long, requires = "into")]
    pub allow_swap: bool,

    /// For onnxseal alone: the process that watches this one.
    #[arg(long, hide = true, requires = "into")]
    pub watched_by: Option<i32>,

    /// The program and its arguments, in which {} stands for the path of the opened MODEL
    #[arg(last = true, required_unless_present = "into")]
    pub program: Vec<OsString>,
}
