//! Who acts as the leader, looked at again and again while a test runs.

use std::error::Error;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crate::world::{Replica, Test};

const INTERVAL: Duration = Duration::from_millis(20);
/// So many looks are the least that say anything.
const LOOKS: usize = 50;

/// Runs `test` and looks all the while whether two replicas lead at the same time.
pub fn while_never_two_lead(first: &Replica, second: &Replica, test: impl FnOnce() -> Test) -> Test {
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let looking = scope.spawn(|| {
            // An error of another thread has to be a text.
            look_until(&is_over, first, second).map_err(|error| error.to_string())
        });
        let tested = {
            let _end = SetOnDrop(&is_over);
            test()
        };
        let looks = looking.join().map_err(|_| "the one who looks has panicked")??;
        tested?;
        assert!(looks >= LOOKS, "{looks} looks");
        Ok(())
    })
}

fn look_until(is_over: &AtomicBool, first: &Replica, second: &Replica) -> Result<usize, Box<dyn Error>> {
    let mut looks = 0;
    while !is_over.load(Ordering::Relaxed) {
        // One is asked before and after the other, so that a handover between two answers is not taken for two leaders.
        if first.leads()? && second.leads()? && first.leads()? {
            return Err(format!("two lead at the same time, at look {looks}").into());
        }
        looks += 1;
        thread::sleep(INTERVAL);
    }
    Ok(looks)
}

/// Also when the test panics, or the scope would wait for the other thread forever.
struct SetOnDrop<'a>(&'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
