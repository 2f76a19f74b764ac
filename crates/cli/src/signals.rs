//! SIGTERM and SIGINT while a training runs or an answer is written: the first ends it cleanly, the second at once.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use hexapla::error::{Error, Result};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::{SigId, flag, low_level};

/// For as long as this lives, the first signal puts its number where that work looks for it. A second one, and any after this
/// is gone, does what signals do where nobody handles them: it ends the process.
#[derive(Debug)]
pub(crate) struct Caught {
    registered: Vec<SigId>,
}

/// Whether a signal ends the process. Handlers of the first level stay for ever and look here: what was there before them cannot
/// be put back.
fn ends_process() -> Result<&'static Arc<AtomicBool>> {
    static ENDS: OnceLock<std::result::Result<Arc<AtomicBool>, String>> = OnceLock::new();
    let register = || {
        let ends = Arc::new(AtomicBool::new(true));
        for signal in [SIGTERM, SIGINT] {
            flag::register_conditional_default(signal, ends.clone()).map_err(|e| e.to_string())?;
        }
        Ok(ends)
    };
    ENDS.get_or_init(register).as_ref().map_err(refused)
}

fn refused(found: impl ToString) -> Error {
    Error::internal("cannot catch signals").found(found.to_string())
}

impl Caught {
    /// Catches signals from now on, and puts the number of the first in `number`.
    ///
    /// # Errors
    /// The system refuses to register them.
    pub(crate) fn new(number: &Arc<AtomicUsize>) -> Result<Self> {
        let ends = ends_process()?;
        let mut caught = Caught {
            registered: Vec::new(),
        };
        for signal in [SIGTERM, SIGINT] {
            let here = flag::register_usize(signal, number.clone(), signal as usize);
            caught.registered.push(here.map_err(refused)?);
            // The next one finds this set.
            let next = flag::register(signal, ends.clone());
            caught.registered.push(next.map_err(refused)?);
        }
        ends.store(false, Ordering::SeqCst);
        Ok(caught)
    }
}

impl Drop for Caught {
    fn drop(&mut self) {
        for id in self.registered.drain(..) {
            low_level::unregister(id);
        }
        if let Ok(ends) = ends_process() {
            ends.store(true, Ordering::SeqCst);
        }
    }
}
