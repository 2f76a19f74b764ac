//! Connections: how many, and how long each may take to say what it wants. (axum's own `serve` sets no timer, so that silent
//! connections would stay for ever.)

use std::future::Future;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::app::Peer;

/// Bounds of what connections may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Open at a time; further ones wait.
    pub(crate) connections: usize,
    /// For a request's head, from the connection's start or the last answer's end.
    pub(crate) head: Duration,
    /// For answers under way once the server is to stop.
    pub(crate) drain: Duration,
}

/// Most bytes of a request's head.
const HEAD_BYTES: usize = 64 << 10;
/// After a connection could not be taken, as where the process has no more files.
const PAUSE: Duration = Duration::from_millis(50);

/// Answers connections until `stop` is done, and then those answers that are under way.
pub(crate) async fn accept(
    listener: TcpListener,
    router: Router,
    limits: Limits,
    stop: impl Future<Output = ()>,
) {
    let permits = Arc::new(Semaphore::new(limits.connections));
    let (closing, _) = watch::channel(());
    let mut connections = JoinSet::new();
    tokio::pin!(stop);
    loop {
        let next = tokio::select! {
            () = &mut stop => break,
            next = next(&listener, &permits) => next,
        };
        match next {
            Some((stream, peer, permit)) => {
                let closing = closing.subscribe();
                let router = router.clone().layer(Extension(Peer(peer)));
                connections.spawn(answer(stream, permit, router, limits, closing));
            }
            None => sleep(PAUSE).await,
        }
        while connections.try_join_next().is_some() {}
    }
    // Whoever comes now is told at once that nobody listens.
    drop(listener);
    // Whoever reads a request is told to finish; whoever waits for one is gone.
    let _ = closing.send(());
    while connections.join_next().await.is_some() {}
}

/// A connection, as soon as there is room for one.
async fn next(
    listener: &TcpListener,
    permits: &Arc<Semaphore>,
) -> Option<(TcpStream, IpAddr, OwnedSemaphorePermit)> {
    let permit = permits.clone().acquire_owned().await.ok()?;
    let (stream, peer) = listener.accept().await.ok()?;
    // Small answers, and the parts of streamed ones, are sent at once.
    stream.set_nodelay(true).ok()?;
    Some((stream, peer.ip().to_canonical(), permit))
}

/// Answers one connection's requests.
async fn answer(
    stream: TcpStream,
    permit: OwnedSemaphorePermit,
    router: Router,
    limits: Limits,
    mut closing: watch::Receiver<()>,
) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head)
        .max_buf_size(HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    tokio::pin!(connection);
    tokio::select! {
        // Of a broken connection nobody is left to tell.
        _ = connection.as_mut() => (),
        _ = closing.changed() => {
            connection.as_mut().graceful_shutdown();
            let _ = timeout(limits.drain, connection).await;
        }
    }
    drop(permit);
}
