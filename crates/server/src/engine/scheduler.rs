//! One model's decoding: requests wait in turn, and are decoded together, a batch on each thread. They join and leave their batch at
//! every step (continuous batching); no answer depends on the company.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use hexapla::generate::running::{Model, RunningBatch};
use hexapla::generate::{Hypothesis, Progress, SearchOptions};
use hexapla::{Error, Result};

use super::queue::{Client, Queue};

/// Most requests of a batch.
const BATCH: usize = 64;
/// Tokens that a batch takes in between two steps, or a single longer request: the others wait no longer than that.
const TAKEN_AT_ONCE: usize = 1024;
/// How often those that nobody waits for are let go.
const SWEPT: Duration = Duration::from_millis(100);

/// A request, and who waits for it.
pub(crate) struct Job<R> {
    pub(crate) request: R,
    pub(crate) options: Arc<SearchOptions>,
    /// Tokens that it may take to compute.
    pub(crate) tokens: usize,
    pub(crate) listener: Box<dyn Listener>,
}

/// Who waits for a request.
pub(crate) trait Listener: Send {
    /// Whether it wants to see outputs as they grow.
    fn watches(&self) -> bool {
        false
    }

    /// Sees an output that has grown, by the number of its sample; says whether it is to go on.
    ///
    /// # Errors
    /// What ends the whole request.
    fn grown(&mut self, _sample: usize, _output: &Hypothesis) -> Result<bool> {
        Ok(true)
    }

    /// Whether nobody waits any more.
    fn is_gone(&self) -> bool;

    /// Gets what was found.
    fn done(self: Box<Self>, found: Result<Vec<Hypothesis>>);
}

/// What has a model that decodes.
pub(crate) trait Serves: Send + Sync + 'static {
    /// The model.
    type Model: Model<Request: Send>;

    /// The model.
    fn model(&self) -> &Self::Model;
}

/// What is asked of the model of `S`.
type RequestOf<S> = <<S as Serves>::Model as Model>::Request;

/// Decodes for all who ask. Dropped, it finishes what was asked of it.
pub(crate) struct Scheduler<S: Serves> {
    state: Arc<State<S>>,
    threads: Vec<JoinHandle<()>>,
}

struct State<S: Serves> {
    server: Arc<S>,
    waiting: Mutex<Waiting<RequestOf<S>>>,
    awake: Condvar,
    start: Instant,
    /// Milliseconds from `start` to the last step of any batch.
    stepped: AtomicU64,
}

struct Waiting<R> {
    queue: Queue<Job<R>>,
    /// Tokens in each batch.
    running: Vec<usize>,
    /// When those that nobody waits for were let go.
    swept: Instant,
    closed: bool,
}

/// What a model is doing.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Activity {
    pub(crate) waiting_tokens: usize,
    pub(crate) waiting_requests: usize,
    pub(crate) running_tokens: usize,
    /// Seconds since a step, where there is something to do.
    pub(crate) stalled: f64,
    /// Whether all its threads live.
    pub(crate) is_alive: bool,
}

impl<S: Serves> Scheduler<S> {
    /// Decodes with the model of `server` in `batches` batches, each on a thread.
    ///
    /// # Errors
    /// The system gives no thread.
    pub(crate) fn start(server: Arc<S>, batches: usize) -> std::io::Result<Self> {
        let state = Arc::new(State {
            server,
            waiting: Mutex::new(Waiting {
                queue: Queue::new(),
                running: vec![0; batches],
                swept: Instant::now(),
                closed: false,
            }),
            awake: Condvar::new(),
            start: Instant::now(),
            stepped: AtomicU64::new(0),
        });
        let mut scheduler = Scheduler {
            state: state.clone(),
            threads: Vec::new(),
        };
        for batch in 0..batches {
            let state = state.clone();
            let thread = std::thread::Builder::new().name(format!("decode-{batch}"));
            scheduler
                .threads
                .push(thread.spawn(move || state.work(batch))?);
        }
        Ok(scheduler)
    }

    /// Takes a request in.
    ///
    /// # Errors
    /// The request or its settings are out of range.
    pub(crate) fn submit(&self, client: Client, job: Job<RequestOf<S>>) -> Result<()> {
        let state = &self.state;
        let model = state.server.model();
        model.check(&job.request)?;
        job.options.validate(model.transformer().vocab_size())?;
        let mut waiting = state.waiting();
        if waiting.queue.len() == 0 && waiting.running.iter().all(|tokens| *tokens == 0) {
            // What has had nothing to do has not been stalled.
            state.has_stepped();
        }
        waiting.queue.push(client, job.tokens, job);
        drop(waiting);
        state.awake.notify_one();
        Ok(())
    }

    /// What it is doing.
    pub(crate) fn activity(&self) -> Activity {
        let waiting = self.state.waiting();
        let running_tokens = waiting.running.iter().sum();
        let stepped = self.state.stepped.load(Ordering::Relaxed) as f64 / 1000.0;
        let is_busy = waiting.queue.len() > 0 || running_tokens > 0;
        Activity {
            waiting_tokens: waiting.queue.tokens(),
            waiting_requests: waiting.queue.len(),
            running_tokens,
            stalled: match is_busy {
                true => (self.state.start.elapsed().as_secs_f64() - stepped).max(0.0),
                false => 0.0,
            },
            is_alive: !self.threads.iter().any(JoinHandle::is_finished),
        }
    }
}

impl<S: Serves> Drop for Scheduler<S> {
    fn drop(&mut self) {
        self.state.waiting().closed = true;
        self.state.awake.notify_all();
        for thread in self.threads.drain(..) {
            // Of what went wrong there everybody who waited was told.
            let _ = thread.join();
        }
    }
}

impl<S: Serves> State<S> {
    fn waiting(&self) -> MutexGuard<'_, Waiting<RequestOf<S>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn has_stepped(&self) {
        let now = self.start.elapsed().as_millis();
        self.stepped
            .store(now.try_into().unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// What the batch with this number, in which so many requests of so many tokens are running, takes in next, and whether it is the
    /// only one with something to do. Where it has none itself it waits for some; nothing once there will be none.
    fn take(
        &self,
        batch: usize,
        (mut requests, mut tokens): (usize, usize),
    ) -> Option<(Vec<Job<RequestOf<S>>>, bool)> {
        let mut waiting = self.waiting();
        loop {
            // Whoever is gone is passed over when their turn comes; now and then all of them are let go.
            if waiting.swept.elapsed() > SWEPT {
                waiting.queue.retain(|job| !job.listener.is_gone());
                waiting.swept = Instant::now();
            }
            waiting.running[batch] = tokens;
            // A batch takes its share, so that no thread is without work while another has a lot.
            let all = waiting.queue.tokens() + waiting.running.iter().sum::<usize>();
            let share = all.div_ceil(waiting.running.len());
            let (mut taken, mut new) = (Vec::new(), 0);
            while requests < BATCH
                && (requests == 0 || tokens < share)
                && let Some(next) = waiting.queue.peek()
                && (new == 0 || new + next <= TAKEN_AT_ONCE)
                && let Some((_, job)) = waiting.queue.pop()
            {
                if job.listener.is_gone() {
                    continue;
                }
                taken.push(job);
                (requests, tokens, new) = (requests + 1, tokens + next, new + next);
            }
            waiting.running[batch] = tokens;
            if requests > 0 {
                let busy = waiting.running.iter().filter(|tokens| **tokens > 0);
                return Some((taken, busy.count() == 1));
            }
            if waiting.closed {
                return None;
            }
            waiting = self
                .awake
                .wait(waiting)
                .unwrap_or_else(PoisonError::into_inner);
            // Whoever comes after a pause does not find the engine stalled.
            self.has_stepped();
        }
    }

    /// Decodes until there is nothing more to come. What goes wrong ends the requests of this batch, and no others.
    fn work(&self, batch: usize) {
        loop {
            let mut running = BTreeMap::new();
            let decoded = catch_unwind(AssertUnwindSafe(|| self.decode(batch, &mut running)));
            let error = match decoded {
                Ok(Ok(())) => return,
                Ok(Err(e)) => e,
                // It has been told on standard error.
                Err(_) => Error::model("the model failed")
                    .expected("an output")
                    .found("an inner error")
                    .hint("ask again"),
            };
            self.waiting().running[batch] = 0;
            for (_, job) in running {
                job.listener.done(Err(error.clone()));
            }
        }
    }

    /// Decodes the requests that come; those that `running` holds are under way, by their numbers in the batch.
    fn decode(
        &self,
        number: usize,
        running: &mut BTreeMap<usize, Job<RequestOf<S>>>,
    ) -> Result<()> {
        let mut batch = RunningBatch::new(self.server.model());
        loop {
            let tokens = running.values().map(|job| job.tokens).sum();
            let Some((jobs, alone)) = self.take(number, (running.len(), tokens)) else {
                return Ok(());
            };
            batch.set_alone(alone);
            take_in(&mut batch, jobs, running);
            let watched = running.values().any(|job| job.listener.watches());
            let mut watch = |number, sample, output: &Hypothesis| match running.get_mut(&number) {
                Some(job) => job.listener.grown(sample, output),
                None => Ok(true),
            };
            let done = batch.step(watched.then_some(&mut watch as &mut Progress))?;
            self.has_stepped();
            for (number, found) in done {
                if let Some(job) = running.remove(&number) {
                    job.listener.done(found);
                }
            }
            for (number, _) in running.extract_if(.., |_, job| job.listener.is_gone()) {
                batch.remove(number);
            }
        }
    }
}

/// Adds `jobs` to a batch, in one pass. They were checked; what is refused all the same is told to whom it concerns.
fn take_in<M: Model>(
    batch: &mut RunningBatch<M>,
    jobs: Vec<Job<M::Request>>,
    running: &mut BTreeMap<usize, Job<M::Request>>,
) {
    let requests: Vec<_> = jobs
        .iter()
        .map(|job| (&job.request, job.options.clone()))
        .collect();
    if let Ok(numbers) = batch.add_all(&requests) {
        running.extend(numbers.zip(jobs));
        return;
    }
    for job in jobs {
        match batch.add(&job.request, &job.options) {
            Ok(number) => {
                running.insert(number, job);
            }
            Err(e) => job.listener.done(Err(e)),
        }
    }
}
