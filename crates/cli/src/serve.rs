//! `hexapla serve`: models behind the interfaces that people's programs already use.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use hexapla::config::ComputeType;
use hexapla::error::{Error, Result};
use hexapla_server::{ModelSettings, ServeSettings, Signal, Told, new_key, serve_models};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use tokio::sync::watch;

use crate::console::{print, say};
use crate::model;

/// Arguments of `hexapla serve`.
#[derive(Debug, clap::Args)]
pub(crate) struct ServeArgs {
    /// Where to listen; 127.0.0.1:7878 where absent. Others than this machine's programs reach 0.0.0.0:7878
    #[arg(long)]
    listen: Option<SocketAddr>,
    /// A model, NAME=FOLDER, or FOLDER, whose own name it has then; may be given several times. The embedded one where absent
    #[arg(long = "model", value_name = "NAME=FOLDER")]
    models: Vec<String>,
    /// Number type of the matrices of these models; that of each folder where absent
    #[arg(long)]
    compute_type: Option<ComputeType>,
    /// The language that these models translate from, where a folder does not say it, as those of OPUS-MT; the settings have one for each
    #[arg(long, requires_all = ["models", "to"])]
    from: Option<String>,
    /// The language that they translate into
    #[arg(long, requires_all = ["models", "from"])]
    to: Option<String>,
    /// Settings: models, keys, bounds (docs/serving.md)
    #[arg(long)]
    config: Option<PathBuf>,
    /// Tell of each request, as a line of JSON on standard error
    #[arg(long)]
    log: bool,
    /// Make an access key, print it and the line that the settings need, and end
    #[arg(long, conflicts_with_all = ["listen", "models", "compute_type", "config"])]
    new_key: bool,
}

pub(crate) fn run(args: ServeArgs) -> Result<()> {
    if args.new_key {
        let (key, hash) = new_key()
            .map_err(|e| Error::internal("the system gives no random numbers").found(e))?;
        say("the key, which is told this once, and what the settings need:");
        let settings = format!("[[keys]]\nname = \"somebody\"\nsha256 = \"{hash}\"");
        return print(&[key, settings]);
    }
    let mut settings = match &args.config {
        Some(path) => ServeSettings::open(path)?,
        None => ServeSettings::default(),
    };
    if let Some(listen) = args.listen {
        settings.listen = listen;
    }
    for text in &args.models {
        let mut model = named(text);
        model.compute_type = args.compute_type.unwrap_or_default();
        (model.from, model.to) = (args.from.clone(), args.to.clone());
        settings.models.push(model);
    }
    if settings.models.is_empty() {
        let mut model = ModelSettings::new("demo", None);
        model.compute_type = args.compute_type.unwrap_or_default();
        settings.models.push(model);
    }
    for model in &mut settings.models {
        model.compute_type = model::decided(model.compute_type);
    }
    if settings.keys.is_empty() && !settings.listen.ip().is_loopback() {
        say(
            "warning: whoever reaches this address may ask, for there are no keys (`hexapla serve --new-key`)",
        );
    }
    if args.log {
        tracing_subscriber::fmt()
            .json()
            .with_writer(std::io::stderr)
            .init();
    }
    let signals = signals()?;
    let batches = rayon::current_num_threads();
    let folder = Box::new(model::folder as fn(Option<&Path>) -> _);
    serve_models(settings, folder, batches, signals, told)
}

/// `NAME=FOLDER`, or a folder.
fn named(text: &str) -> ModelSettings {
    match text.split_once('=') {
        // Of no folder: the embedded one.
        Some((name, folder)) => {
            let folder = Some(folder).filter(|folder| !folder.is_empty());
            ModelSettings::new(name, folder.map(Into::into))
        }
        None => {
            let path = Path::new(text);
            let name = path
                .file_stem()
                .map(|name| name.to_string_lossy().into_owned());
            ModelSettings::new(name.unwrap_or_else(|| text.to_string()), Some(path.into()))
        }
    }
}

fn told(told: Told) {
    match told {
        Told::Listens(address) => {
            say(format_args!("listening at http://{address}"));
        }
        Told::Serves { name, task } => {
            say(format_args!("serving {name}: {task}"));
        }
        Told::Ready(address) => {
            say(format_args!(
                "try:  curl http://{address}/translate -d q='Good morning.' -d source=en -d target=de\nstop: Ctrl-C"
            ));
        }
        Told::NotReloaded(name, error) => {
            say(format_args!("{name} stays as it was: {error}"));
        }
    }
}

/// What signals say: SIGTERM and SIGINT to stop, a second one at once; SIGHUP to read all models anew.
fn signals() -> Result<watch::Receiver<Signal>> {
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP])
        .map_err(|e| Error::internal("cannot catch signals").found(e.to_string()))?;
    let (tell, told) = watch::channel(Signal::Go);
    std::thread::spawn(move || {
        let (mut stops, mut reloads) = (false, 0);
        for signal in signals.forever() {
            match signal {
                SIGHUP if stops => (),
                SIGHUP => {
                    reloads += 1;
                    let _ = tell.send(Signal::Reload(reloads));
                }
                number if stops => std::process::exit(128 + number),
                _ => {
                    stops = true;
                    say("finishing what is under way; once more to stop at once");
                    let _ = tell.send(Signal::Stop);
                }
            }
        }
    });
    Ok(told)
}
