//! `hexapla serve`: from the settings to the last answer.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::Router;
use hexapla::{Error, Result};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::sleep;

use crate::accept::{Limits, accept};
use crate::app::{App, answer};
use crate::models::OpenFolder;
use crate::secret::drawn;
use crate::settings::ServeSettings;

/// What the server is told while it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Signal {
    /// Nothing yet.
    #[default]
    Go,
    /// Read all models anew; counted, for it may be said again.
    Reload(u64),
    /// Stop, with what is under way.
    Stop,
}

/// What the server tells.
pub enum Told<'a> {
    /// It listens.
    Listens(std::net::SocketAddr),
    /// A model is served.
    Serves {
        /// Its name.
        name: &'a str,
        /// What it does.
        task: &'a str,
    },
    /// All models are served at this address.
    Ready(std::net::SocketAddr),
    /// A model could not be read anew; the one before is served.
    NotReloaded(&'a str, &'a Error),
}

/// Serves until it is told to stop.
///
/// # Errors
/// Settings that do not fit, an address that cannot be listened at, or a model that cannot be opened.
pub fn serve_models(
    mut settings: ServeSettings,
    folder: Box<OpenFolder>,
    batches: usize,
    signals: watch::Receiver<Signal>,
    told: impl Fn(Told) + Send + Sync + 'static,
) -> Result<()> {
    settings.check()?;
    settings.instance =
        drawn::<6>().map_err(|e| Error::internal("the system gives no random numbers").found(e))?;
    let listen = settings.listen;
    let failed = |e: std::io::Error| Error::io("cannot listen", Path::new(&listen.to_string()), &e);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(settings.max_connections + 64)
        .enable_all()
        .build()
        .map_err(failed)?;
    let app = App::new(settings, folder, batches)
        .map_err(|e| Error::settings("the settings do not fit").found(e))?;
    let app = Arc::new(app);
    let served = runtime.block_on(async {
        let listener = TcpListener::bind(listen).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        told(Told::Listens(address));
        run(app, (listener, address), signals, told).await
    });
    // What blocks beyond the limit is not waited for.
    runtime.shutdown_timeout(Duration::from_secs(1));
    served
}

async fn run(
    app: Arc<App>,
    (listener, address): (TcpListener, std::net::SocketAddr),
    mut signals: watch::Receiver<Signal>,
    told: impl Fn(Told) + Send + Sync + 'static,
) -> Result<()> {
    let settings = &app.settings;
    let limits = Limits {
        connections: settings.max_connections,
        head: Duration::from_secs(settings.head_timeout_seconds),
        drain: Duration::from_secs(settings.drain_seconds),
    };
    let router = Router::new().fallback(answer).with_state(app.clone());
    let told = Arc::new(told);
    let (close, closed) = tokio::sync::oneshot::channel::<()>();
    let accepting = tokio::spawn(accept(listener, router, limits, async {
        let _ = closed.await;
    }));
    // It listens while it loads: who asks is told to wait.
    let stops = |signal: &Signal| *signal == Signal::Stop;
    tokio::select! {
        loaded = load_all(&app, &told) => loaded?,
        _ = signals.wait_for(stops) => return Ok(()),
    }
    app.is_loaded.store(true, Ordering::Release);
    told(Told::Ready(address));
    let mut reloaded = 0;
    loop {
        let signal = *signals.borrow_and_update();
        match signal {
            Signal::Stop => break,
            Signal::Reload(count) if count > reloaded => {
                reloaded = count;
                let mut others = signals.clone();
                tokio::select! {
                    () = reload_all(&app, &told) => continue,
                    _ = others.wait_for(stops) => break,
                }
            }
            Signal::Go | Signal::Reload(_) => (),
        }
        if signals.changed().await.is_err() {
            break;
        }
    }
    app.drains.store(true, Ordering::Release);
    // Whoever sends requests here shall see that it should not any more.
    sleep(Duration::from_secs(app.settings.drain_delay_seconds)).await;
    let _ = close.send(());
    let _ = accepting.await;
    Ok(())
}

async fn load_all<T: Fn(Told) + Send + Sync + 'static>(
    app: &Arc<App>,
    told: &Arc<T>,
) -> Result<()> {
    for model in app.settings.models.clone() {
        let loader = app.clone();
        let loaded = tokio::task::spawn_blocking(move || loader.load(&model)).await;
        let model = loaded.map_err(|_| Error::internal("a model could not be opened"))??;
        told(Told::Serves {
            name: model.name(),
            task: model.task(),
        });
    }
    Ok(())
}

async fn reload_all<T: Fn(Told) + Send + Sync + 'static>(app: &Arc<App>, told: &Arc<T>) {
    for model in app.models.all() {
        let loader = app.clone();
        let settings = model.settings.clone();
        let loaded = tokio::task::spawn_blocking(move || loader.load(&settings)).await;
        match loaded {
            Ok(Ok(model)) => told(Told::Serves {
                name: model.name(),
                task: model.task(),
            }),
            Ok(Err(e)) => told(Told::NotReloaded(model.name(), &e)),
            Err(_) => (),
        }
    }
}
