//! Making a slot ours.

use std::sync::Arc;
use std::time::Duration;

use tracing::warn;

use crate::context::View;
use crate::copy::engine::{COMMIT_TIMEOUT, Engine};
use crate::copy::seat::Seat;
use crate::error::{Error, Result};
use crate::state::ledger::{FENCE_TIMEOUT, Fence, NotFenced, fence_patiently};
use crate::state::slot::{Slot, spare_record};
use crate::status::TaskState;

/// A transactional id that cannot be had for so long after an abort of ours is held up by it.
const HELD_UP: Duration = Duration::from_millis(700);
/// How long stored progress may take to be read.
const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// Makes the slot ours: fences every former owner, then reads what is stored. `None`: asked to drain meanwhile.
///
/// The task's own transactional id can be held up by a transaction that we gave up ourselves and that cannot end. Then
/// the spare serves, for as long as this session lasts, and no two owners can both believe:
///
/// ```text
///  we     own id held up (our own abort) ─ fence the spare ─ store "spare in use" ─ own id still held up ─ read, go on
///  others                  own id fenced: not before it is free ─▶ read: "spare in use" ─ fence the spare: ends us
/// ```
pub(super) fn own_slot(
    task: &mut Seat,
    engine: impl Fn(Fence) -> Result<Engine>,
) -> Result<Option<(Engine, Slot)>> {
    let (flow, number) = (task.flow.clone(), task.task);
    let topic = flow.spec.id.progress_topic();
    let read = || Slot::read_fenced(&flow.target_admin, &flow.target, &topic, number, READ_TIMEOUT);
    let mut own = engine(Fence::Own(number))?;
    loop {
        let patience = if task.left_open { HELD_UP } else { FENCE_TIMEOUT };
        let held_up = match own.fence(patience) {
            Ok(()) => break,
            Err(NotFenced::Refused(error)) => return Err(error),
            Err(NotFenced::Waiting(error)) => {
                task.set_state(TaskState::Starting, Some(&error));
                false
            }
            Err(NotFenced::HeldUp(error)) => {
                task.set_state(TaskState::Starting, Some(&error));
                true
            }
        };
        if task.drain.is_cancelled() {
            return Ok(None);
        }
        if !task.left_open || !held_up {
            continue;
        }
        let mut spare = engine(Fence::Spare(number))?;
        match spare.fence(FENCE_TIMEOUT) {
            Ok(()) => spare.commit(&[spare_record(number, true)], false, COMMIT_TIMEOUT)?,
            Err(NotFenced::Refused(error)) => return Err(error),
            Err(NotFenced::Waiting(_) | NotFenced::HeldUp(_)) => continue,
        }
        match own.fence(HELD_UP) {
            Ok(()) => break,
            Err(NotFenced::Refused(error)) => return Err(error),
            Err(NotFenced::Waiting(_)) => {}
            Err(NotFenced::HeldUp(error)) => {
                warn!(%error, "an aborted transaction cannot end; the task goes on by its spare transactional id");
                return Ok(Some((spare, read()?.whole()?)));
            }
        }
    }
    task.left_open = false;
    let slot = read()?;
    if !slot.spare_may_write() {
        return Ok(Some((own, slot)));
    }
    let mut spare = engine(Fence::Spare(number))?;
    let goes_on = |error: &Error| {
        task.set_state(TaskState::Starting, Some(error));
        !task.drain.is_cancelled()
    };
    match fence_patiently(|timeout| spare.fence(timeout), goes_on) {
        Ok(()) => {}
        Err(NotFenced::Refused(error)) => return Err(error),
        Err(NotFenced::Waiting(_) | NotFenced::HeldUp(_)) => return Ok(None),
    }
    let slot = read()?.whole()?;
    if slot.spare {
        own.commit(&[spare_record(number, false)], false, COMMIT_TIMEOUT)?;
    }
    Ok(Some((own, slot)))
}

/// What can be copied, once that is known. `None`: asked to drain meanwhile.
pub(super) fn wait_for_view(task: &Seat) -> Option<Arc<View>> {
    loop {
        if task.drain.is_cancelled() {
            return None;
        }
        if let Some(view) = task.flow.view.load_full() {
            return Some(view);
        }
        task.still_here();
        std::thread::park_timeout(Duration::from_millis(20));
    }
}
