//! Who may ask, and how much: access keys, of which only hashes are known here, and what each may take.

use std::collections::HashMap;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use governor::clock::{Clock, DefaultClock};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::engine::queue::Client;
use crate::refusal::Refusal;
use crate::secret::{drawn, hexadecimal, is_equal};

/// What somebody may take; without a number there is no bound.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Allowance {
    /// Requests a minute.
    pub requests_per_minute: Option<NonZeroU32>,
    /// Characters of text a minute.
    pub characters_per_minute: Option<NonZeroU32>,
    /// Tokens a minute, those that are written among them.
    pub tokens_per_minute: Option<NonZeroU32>,
    /// Requests at a time.
    pub requests_in_flight: Option<NonZeroU32>,
}

/// An access key, as the settings name it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeySettings {
    /// Whose it is, as the log tells it.
    pub name: String,
    /// The SHA-256 of the key in hexadecimal digits.
    pub sha256: String,
    /// Whether it may load, swap and unload models, and read the metrics.
    #[serde(default)]
    pub admin: bool,
    /// What it may take.
    #[serde(default)]
    pub allowance: Allowance,
}

/// Who has asked.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    /// Whose turn it is in the queue.
    pub(crate) client: Client,
    /// The name of the key; nothing where none is needed.
    pub(crate) name: Option<String>,
    /// Whether they may change what the server does.
    pub(crate) is_admin: bool,
    account: Arc<Account>,
}

/// What somebody has taken.
#[derive(Debug)]
struct Account {
    requests: Option<DefaultDirectRateLimiter>,
    characters: Option<DefaultDirectRateLimiter>,
    tokens: Option<DefaultDirectRateLimiter>,
    in_flight: AtomicUsize,
    allowance: Allowance,
    /// When it was last asked for.
    used: Mutex<Instant>,
}

/// A request under way, as its caller's account has it.
#[derive(Debug)]
pub(crate) struct InFlight(Arc<Account>);

/// All that may ask.
#[derive(Debug)]
pub(crate) struct Keys {
    keys: Vec<Key>,
    /// Of those without a key, by address, where no key is needed.
    open: Allowance,
    addresses: Mutex<(HashMap<IpAddr, Arc<Account>>, Instant)>,
}

#[derive(Debug)]
struct Key {
    hash: [u8; 32],
    name: String,
    is_admin: bool,
    account: Arc<Account>,
}

/// Addresses that are remembered; beyond that those that ask nothing are forgotten.
const ADDRESSES: usize = 4096;

impl Keys {
    /// These keys; with none everybody may ask, and `open` is what each address may take.
    ///
    /// # Errors
    /// A hash that is none.
    pub(crate) fn new(settings: &[KeySettings], open: Allowance) -> Result<Self, String> {
        let key = |settings: &KeySettings| {
            let hash = bytes(&settings.sha256).ok_or_else(|| {
                format!(
                    "the key of {}: `sha256` must be 64 hexadecimal digits; `hexapla serve --new-key` makes a key and tells them",
                    settings.name
                )
            })?;
            Ok(Key {
                hash,
                name: settings.name.clone(),
                is_admin: settings.admin,
                account: Account::new(settings.allowance),
            })
        };
        Ok(Keys {
            keys: settings.iter().map(key).collect::<Result<_, String>>()?,
            open,
            addresses: Mutex::new((HashMap::new(), Instant::now())),
        })
    }

    /// Whoever asks what everybody may know.
    pub(crate) fn nobody() -> Caller {
        Caller {
            client: 0,
            name: None,
            is_admin: false,
            account: Account::new(Allowance::default()),
        }
    }

    /// Whether one has to have a key.
    pub(crate) fn are_needed(&self) -> bool {
        !self.keys.is_empty()
    }

    /// Whose key that is. All are looked at, whichever it is, and hashes are compared: the time tells nothing of a key.
    ///
    /// `is_local` is whether it is asked by a program of this machine.
    ///
    /// # Errors
    /// A key is needed that is not there, or not known.
    pub(crate) fn caller(
        &self,
        key: Option<&str>,
        (address, is_local): (IpAddr, bool),
    ) -> Result<Caller, Refusal> {
        if !self.are_needed() {
            return Ok(Caller {
                client: hash_of(&address),
                name: None,
                is_admin: is_local,
                account: self.of_address(address),
            });
        }
        let unauthorized = |message| Refusal::new(StatusCode::UNAUTHORIZED, message);
        let Some(key) = key else {
            return Err(unauthorized("an access key is needed").with_code("missing_api_key"));
        };
        let hash: [u8; 32] = Sha256::digest(key.as_bytes()).into();
        let mut found = None;
        for (number, known) in self.keys.iter().enumerate() {
            if is_equal(&known.hash, &hash) {
                found = Some((number, known));
            }
        }
        let (number, known) = found.ok_or_else(|| {
            unauthorized("the access key is not known here").with_code("invalid_api_key")
        })?;
        Ok(Caller {
            client: number as Client,
            name: Some(known.name.clone()),
            is_admin: known.is_admin,
            account: known.account.clone(),
        })
    }

    fn of_address(&self, address: IpAddr) -> Arc<Account> {
        // Who has one address of the newer kind has all of its network.
        let address = match address {
            IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() >> 64 << 64).into()),
            v4 => v4,
        };
        let addresses = &mut *self
            .addresses
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let (accounts, swept) = addresses;
        if accounts.len() >= ADDRESSES && swept.elapsed() > Duration::from_secs(1) {
            accounts.retain(|_, account| !account.is_at_rest());
            *swept = Instant::now();
        }
        let account = accounts.entry(address);
        let account = account.or_insert_with(|| Account::new(self.open)).clone();
        *account.used.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        account
    }
}

impl Caller {
    /// Begins a request.
    ///
    /// # Errors
    /// More than they may ask.
    pub(crate) fn begin(&self) -> Result<InFlight, Refusal> {
        let account = &self.account;
        let most = account.allowance.requests_in_flight;
        let before = account.in_flight.fetch_add(1, Ordering::AcqRel);
        // From here on it counts, and no more once it is dropped.
        let request = InFlight(account.clone());
        if most.is_some_and(|most| before >= most.get() as usize) {
            return Err(too_many("requests at a time", Duration::from_secs(1)));
        }
        take(account.requests.as_ref(), 1, "requests a minute")?;
        Ok(request)
    }

    /// Counts characters of text.
    ///
    /// # Errors
    /// More than they may send.
    pub(crate) fn count_characters(&self, characters: usize) -> Result<(), Refusal> {
        let limiter = self.account.characters.as_ref();
        take(limiter, characters, "characters a minute")
    }

    /// Counts tokens.
    ///
    /// # Errors
    /// More than they may take.
    pub(crate) fn count_tokens(&self, tokens: usize) -> Result<(), Refusal> {
        take(self.account.tokens.as_ref(), tokens, "tokens a minute")
    }

    /// Characters that they may send a minute, where that is bounded.
    pub(crate) fn characters_per_minute(&self) -> Option<u32> {
        self.account
            .allowance
            .characters_per_minute
            .map(NonZeroU32::get)
    }
}

impl Account {
    fn new(allowance: Allowance) -> Arc<Self> {
        let limiter = |most: Option<NonZeroU32>| {
            most.map(|most| RateLimiter::direct(Quota::per_minute(most)))
        };
        Arc::new(Account {
            requests: limiter(allowance.requests_per_minute),
            characters: limiter(allowance.characters_per_minute),
            tokens: limiter(allowance.tokens_per_minute),
            in_flight: AtomicUsize::new(0),
            allowance,
            used: Mutex::new(Instant::now()),
        })
    }

    /// Whether it is as a new one: nothing is under way, and what was taken is more than a minute ago.
    fn is_at_rest(&self) -> bool {
        let used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        self.in_flight.load(Ordering::Acquire) == 0 && used.elapsed() > Duration::from_secs(60)
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::AcqRel);
    }
}

fn take(
    limiter: Option<&DefaultDirectRateLimiter>,
    count: usize,
    what: &str,
) -> Result<(), Refusal> {
    let count = u32::try_from(count).unwrap_or(u32::MAX);
    let (Some(limiter), Some(count)) = (limiter, NonZeroU32::new(count)) else {
        return Ok(());
    };
    match limiter.check_n(count) {
        Ok(Ok(())) => Ok(()),
        Ok(Err(until)) => Err(too_many(
            what,
            until.wait_time_from(DefaultClock::default().now()),
        )),
        Err(most) => Err(Refusal::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!(
                "the request is larger than your {} {what}: send it in parts",
                most.0
            ),
        )),
    }
}

fn too_many(what: &str, after: Duration) -> Refusal {
    // Whole seconds, and never too early.
    let after = Duration::from_secs(after.as_secs() + 1);
    Refusal::later(
        StatusCode::TOO_MANY_REQUESTS,
        format!("you have taken your {what}"),
        after,
    )
    .with_code("rate_limit_exceeded")
}

/// The bytes of 64 hexadecimal digits.
fn bytes(digits: &str) -> Option<[u8; 32]> {
    let digits = digits.trim();
    if digits.len() != 64 || !digits.is_ascii() {
        return None;
    }
    let mut bytes = [0; 32];
    for (i, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(digits.get(2 * i..2 * i + 2)?, 16).ok()?;
    }
    Some(bytes)
}

/// A number of an address that no key has.
fn hash_of(address: &IpAddr) -> Client {
    let octets = match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    };
    let digest = Sha256::digest(octets);
    let first = digest.first_chunk::<8>().copied().unwrap_or_default();
    Client::from_le_bytes(first) | 1 << 63
}

/// A new key and its SHA-256 in hexadecimal digits.
///
/// # Errors
/// The system gives no random numbers.
pub fn new_key() -> Result<(String, String), String> {
    let key = format!("hx-{}", drawn::<24>()?);
    let hash = hexadecimal(&Sha256::digest(key.as_bytes()));
    Ok((key, hash))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(allowance: Allowance) -> (Keys, String) {
        let (key, sha256) = new_key().unwrap();
        let settings = KeySettings {
            name: "mine".to_string(),
            sha256,
            admin: false,
            allowance,
        };
        (Keys::new(&[settings], Allowance::default()).unwrap(), key)
    }

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    #[test]
    fn only_a_known_key_gets_in() {
        let (keys, key) = keys(Allowance::default());
        assert_eq!(
            keys.caller(Some(&key), (HERE, true))
                .unwrap()
                .name
                .as_deref(),
            Some("mine")
        );
        for wrong in [
            None,
            Some(""),
            Some("hx-"),
            Some(&key[1..]),
            Some(&format!("{key} ")),
        ] {
            let refused = keys.caller(wrong, (HERE, true)).unwrap_err();
            assert_eq!(refused.status, StatusCode::UNAUTHORIZED);
        }
        let open = Keys::new(&[], Allowance::default()).unwrap();
        assert!(open.caller(None, (HERE, true)).unwrap().is_admin);
        assert!(
            !open
                .caller(None, ([10, 0, 0, 1].into(), false))
                .unwrap()
                .is_admin
        );
        let bad = KeySettings {
            name: "bad".to_string(),
            sha256: "x".repeat(64),
            admin: false,
            allowance: Allowance::default(),
        };
        assert!(Keys::new(&[bad], Allowance::default()).is_err());
    }

    #[test]
    fn nobody_takes_more_than_they_may() {
        let (keys, key) = keys(Allowance {
            requests_per_minute: NonZeroU32::new(3),
            characters_per_minute: NonZeroU32::new(100),
            tokens_per_minute: None,
            requests_in_flight: NonZeroU32::new(2),
        });
        let caller = keys.caller(Some(&key), (HERE, true)).unwrap();
        let first = caller.begin().unwrap();
        let _second = caller.begin().unwrap();
        let refused = caller.begin().unwrap_err();
        assert_eq!(refused.status, StatusCode::TOO_MANY_REQUESTS);
        drop(first);
        let _third = caller.begin().unwrap();
        drop(_third);
        assert!(caller.begin().unwrap_err().retry_after.unwrap() >= Duration::from_secs(1));
        assert!(caller.count_characters(60).is_ok());
        assert!(
            caller
                .count_characters(60)
                .unwrap_err()
                .retry_after
                .is_some()
        );
        let never = caller.count_characters(101).unwrap_err();
        assert_eq!(never.status, StatusCode::PAYLOAD_TOO_LARGE);
        assert!(caller.count_tokens(usize::MAX).is_ok());
    }

    #[test]
    fn addresses_have_accounts_of_their_own() {
        let open = Keys::new(
            &[],
            Allowance {
                requests_per_minute: NonZeroU32::new(1),
                ..Allowance::default()
            },
        );
        let open = open.unwrap();
        for number in 0..2 * ADDRESSES as u32 {
            let address = IpAddr::from(number.to_be_bytes());
            let caller = open.caller(None, (address, false)).unwrap();
            if number % 2 == 0 {
                assert!(caller.begin().is_ok());
                assert!(caller.begin().is_err());
            }
        }
        // Who has just asked is not forgotten.
        let address = IpAddr::from(0_u32.to_be_bytes());
        let caller = open.caller(None, (address, false)).unwrap();
        assert!(caller.begin().is_err());
    }
}
