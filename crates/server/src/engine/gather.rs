//! Texts of several requests that are computed together, as many as are there: for encoders, which are done in one pass.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use hexapla::{Error, Result};
use tokio::sync::oneshot;

use super::queue::{Client, Queue};
use super::scheduler::Activity;

/// Tokens that are computed together, or a single longer request: those who come meanwhile wait no longer than that.
const TOGETHER: usize = 8192;

/// Texts to compute in one way.
pub(crate) struct Texts<K> {
    /// How: requests of one way are computed together.
    pub(crate) way: K,
    pub(crate) texts: Vec<String>,
    /// About how many tokens they have.
    pub(crate) tokens: usize,
}

struct Job<K, T> {
    texts: Texts<K>,
    answer: oneshot::Sender<Result<Vec<T>>>,
}

/// Computes for all who ask. Dropped, it finishes what was asked of it.
pub(crate) struct Gatherer<K, T> {
    state: Arc<State<K, T>>,
    thread: Option<JoinHandle<()>>,
}

struct State<K, T> {
    waiting: Mutex<Waiting<K, T>>,
    awake: Condvar,
}

struct Waiting<K, T> {
    queue: Queue<Job<K, T>>,
    /// Tokens that are being computed, and since when.
    running: usize,
    since: Instant,
    closed: bool,
}

impl<K: Eq + Send + 'static, T: Send + 'static> Gatherer<K, T> {
    /// Computes by `compute`, which gives one result for each text.
    ///
    /// # Errors
    /// The system gives no thread.
    pub(crate) fn start(
        compute: impl Fn(&K, &[String]) -> Result<Vec<T>> + Send + 'static,
    ) -> std::io::Result<Self> {
        let state = Arc::new(State {
            waiting: Mutex::new(Waiting {
                queue: Queue::new(),
                running: 0,
                since: Instant::now(),
                closed: false,
            }),
            awake: Condvar::new(),
        });
        let shared = state.clone();
        let thread = std::thread::Builder::new().name("encode".to_string());
        let thread = thread.spawn(move || shared.work(&compute))?;
        Ok(Gatherer {
            state,
            thread: Some(thread),
        })
    }

    /// What comes of `texts`, in their order. Whoever does not wait for it any more is left out.
    ///
    /// # Errors
    /// A text that cannot be taken ([`Error::item`] says which), or a model that failed.
    pub(crate) async fn compute(&self, client: Client, texts: Texts<K>) -> Result<Vec<T>> {
        let (answer, answered) = oneshot::channel();
        let tokens = texts.tokens;
        self.state
            .waiting()
            .queue
            .push(client, tokens, Job { texts, answer });
        self.state.awake.notify_one();
        answered.await.unwrap_or_else(|_| Err(failed()))
    }

    /// What it is doing.
    pub(crate) fn activity(&self) -> Activity {
        let waiting = self.state.waiting();
        Activity {
            waiting_tokens: waiting.queue.tokens(),
            waiting_requests: waiting.queue.len(),
            running_tokens: waiting.running,
            stalled: match waiting.running {
                0 => 0.0,
                _ => waiting.since.elapsed().as_secs_f64(),
            },
            is_alive: self
                .thread
                .as_ref()
                .is_some_and(|thread| !thread.is_finished()),
        }
    }
}

impl<K, T> Drop for Gatherer<K, T> {
    fn drop(&mut self) {
        self.state.waiting().closed = true;
        self.state.awake.notify_all();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl<K, T> State<K, T> {
    fn waiting(&self) -> MutexGuard<'_, Waiting<K, T>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Eq, T> State<K, T> {
    /// What is computed together next; nothing once there will be nothing.
    fn take(&self) -> Option<Vec<Job<K, T>>> {
        let mut waiting = self.waiting();
        waiting.running = 0;
        loop {
            waiting.queue.retain(|job| !job.answer.is_closed());
            let mut taken: Vec<Job<K, T>> = Vec::new();
            let mut tokens = 0;
            while let Some(next) = waiting.queue.first()
                && taken.first().is_none_or(|first| {
                    first.texts.way == next.texts.way && tokens + next.texts.tokens <= TOGETHER
                })
                && let Some((of_job, job)) = waiting.queue.pop()
            {
                tokens += of_job;
                taken.push(job);
            }
            if !taken.is_empty() {
                waiting.running = tokens;
                waiting.since = Instant::now();
                return Some(taken);
            }
            if waiting.closed {
                return None;
            }
            waiting = self
                .awake
                .wait(waiting)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn work(&self, compute: &impl Fn(&K, &[String]) -> Result<Vec<T>>) {
        // What goes wrong ends the requests that it concerns, and no others.
        let guarded = |way: &K, texts: &[String]| {
            catch_unwind(AssertUnwindSafe(|| compute(way, texts))).unwrap_or_else(|_| Err(failed()))
        };
        while let Some(mut jobs) = self.take() {
            let counts: Vec<usize> = jobs.iter().map(|job| job.texts.texts.len()).collect();
            let whole = match jobs.as_mut_slice() {
                [only] => self.in_parts(only, &guarded),
                all => {
                    let texts: Vec<String> = all
                        .iter()
                        .flat_map(|job| job.texts.texts.iter().cloned())
                        .collect();
                    guarded(&all[0].texts.way, &texts)
                }
            };
            match whole {
                Ok(found) if found.len() == counts.iter().sum::<usize>() => {
                    let mut found = found.into_iter();
                    for (job, count) in jobs.into_iter().zip(counts) {
                        let _ = job.answer.send(Ok(found.by_ref().take(count).collect()));
                    }
                }
                Err(e) if jobs.len() == 1 => {
                    for job in jobs {
                        let _ = job.answer.send(Err(e.clone()));
                    }
                }
                // Some text of somebody's cannot be taken: the others' can.
                _ => {
                    for job in jobs {
                        let found = guarded(&job.texts.way, &job.texts.texts);
                        let _ = job.answer.send(found);
                    }
                }
            }
        }
    }
}

impl<K: Eq, T> State<K, T> {
    /// Computes what is one's alone, some texts at a time, for as long as somebody waits for it.
    fn in_parts(
        &self,
        job: &Job<K, T>,
        compute: &impl Fn(&K, &[String]) -> Result<Vec<T>>,
    ) -> Result<Vec<T>> {
        let texts = &job.texts.texts;
        let parts = job.texts.tokens.div_ceil(TOGETHER).max(1);
        let part = texts.len().div_ceil(parts).max(1);
        let mut found = Vec::with_capacity(texts.len());
        for (number, texts) in texts.chunks(part).enumerate() {
            if job.answer.is_closed() {
                return Err(failed());
            }
            self.waiting().since = Instant::now();
            let these = compute(&job.texts.way, texts);
            found.extend(these.map_err(|e| match e.item() {
                Some(item) => e.in_item(number * part + item),
                None => e,
            })?);
        }
        Ok(found)
    }
}

fn failed() -> Error {
    Error::internal("the model failed")
        .expected("an answer")
        .found("an inner error")
        .hint("ask again")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lengths of texts, or an error where one is empty; "panic" panics.
    fn lengths(way: &u8, texts: &[String]) -> Result<Vec<(u8, usize)>> {
        if let Some(empty) = texts.iter().position(String::is_empty) {
            return Err(Error::input("empty").in_item(empty));
        }
        assert!(!texts.iter().any(|text| text == "panic"));
        Ok(texts.iter().map(|text| (*way, text.len())).collect())
    }

    #[tokio::test]
    async fn each_gets_its_own_whoever_else_asks() {
        let gatherer = Arc::new(Gatherer::start(lengths).unwrap());
        let mut asked = Vec::new();
        for number in 0..200_usize {
            let gatherer = gatherer.clone();
            asked.push(tokio::spawn(async move {
                let texts = match number % 20 {
                    7 => vec!["a".to_string(), String::new()],
                    9 => vec!["panic".to_string()],
                    _ => (1..=number % 5)
                        .map(|len| "x".repeat(len + number))
                        .collect(),
                };
                let texts = Texts {
                    way: (number % 3) as u8,
                    tokens: 100,
                    texts,
                };
                (number, gatherer.compute(1, texts).await)
            }));
        }
        for asked in asked {
            let (number, found) = asked.await.unwrap();
            match number % 20 {
                7 => assert_eq!(found.unwrap_err().item(), Some(1)),
                9 => assert_eq!(found.unwrap_err(), failed()),
                _ => {
                    let expected: Vec<_> = (1..=number % 5)
                        .map(|len| ((number % 3) as u8, len + number))
                        .collect();
                    assert_eq!(found.unwrap(), expected);
                }
            }
        }
        assert!(gatherer.activity().is_alive);
    }

    #[tokio::test]
    async fn who_has_gone_is_left_out() {
        let (begun, begins) = std::sync::mpsc::channel();
        let (go, goes) = std::sync::mpsc::channel::<()>();
        let slow = move |way: &u8, texts: &[String]| {
            begun.send(texts.to_vec()).unwrap();
            goes.recv().unwrap();
            lengths(way, texts)
        };
        let gatherer = Arc::new(Gatherer::start(slow).unwrap());
        let ask = |text: &str| {
            let (gatherer, text) = (gatherer.clone(), text.to_string());
            tokio::spawn(async move {
                let texts = Texts {
                    way: 1,
                    tokens: 10,
                    texts: vec![text],
                };
                gatherer.compute(1, texts).await
            })
        };
        let first = ask("first");
        let wait = || tokio::time::sleep(std::time::Duration::from_millis(20));
        while gatherer.activity().running_tokens == 0 {
            wait().await;
        }
        let (second, third) = (ask("second"), ask("third"));
        while gatherer.activity().waiting_requests < 2 {
            wait().await;
        }
        second.abort();
        assert!(second.await.is_err());
        go.send(()).unwrap();
        go.send(()).unwrap();
        assert_eq!(first.await.unwrap().unwrap(), [(1, 5)]);
        assert_eq!(third.await.unwrap().unwrap(), [(1, 5)]);
        let seen: Vec<Vec<String>> = begins.try_iter().collect();
        assert_eq!(seen, [["first"], ["third"]]);
    }
}
