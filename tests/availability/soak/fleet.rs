//! The replicas of a row, and the endpoints of their Service.

use std::error::Error;

use pullpass_test_support::{Signal, wait_for};

use crate::world::{Replica, SOON, Test, World};

pub struct Fleet<'a> {
    world: &'a World,
    pub replicas: Vec<Replica>,
    flags: [String; 4],
}

impl<'a> Fleet<'a> {
    /// So many replicas, one of which leads. None is an endpoint yet.
    pub fn start(world: &'a World, count: usize, shutdown_delay: usize) -> Result<Self, Box<dyn Error>> {
        let mut fleet = Self {
            world,
            replicas: Vec::new(),
            flags: [
                format!("--shutdown-delay={shutdown_delay}"),
                // An hour as shipped, which a rotation takes twice.
                "--ca-overlap=2".to_owned(),
                "--unattached=deny".to_owned(),
                "--forbidden=deny".to_owned(),
            ],
        };
        for _ in 0..count {
            fleet.add()?;
        }
        fleet.wait_for_leader()?;
        Ok(fleet)
    }

    /// Starts one more, which is no endpoint yet.
    pub fn add(&mut self) -> Test {
        let flags = self.flags.each_ref().map(String::as_str);
        self.replicas.push(self.world.start_replica(&flags)?);
        Ok(())
    }

    /// Makes all replicas endpoints.
    pub fn publish(&self) -> Test {
        self.world.publish(&self.replicas.iter().collect::<Vec<_>>())
    }

    /// Makes all replicas but this one endpoints.
    pub fn publish_without(&self, left_out: usize) -> Test {
        let others = self.replicas.iter().enumerate();
        let others: Vec<_> = others
            .filter(|(number, _)| *number != left_out)
            .map(|(_, replica)| replica)
            .collect();
        self.world.publish(&others)
    }

    pub fn replica(&mut self, number: usize) -> Result<&mut Replica, Box<dyn Error>> {
        Ok(self.replicas.get_mut(number).ok_or("there is no such replica")?)
    }

    /// Which one leads.
    pub fn wait_for_leader(&self) -> Result<usize, Box<dyn Error>> {
        self.wait_for_leader_but(None)
    }

    /// Which other one leads.
    pub fn wait_for_leader_but(&self, left_out: Option<usize>) -> Result<usize, Box<dyn Error>> {
        Ok(wait_for("a replica to lead", SOON, || {
            let mut replicas = self.replicas.iter().enumerate();
            replicas
                .find(|(number, replica)| Some(*number) != left_out && replica.leads().unwrap_or(false))
                .map(|(number, _)| number)
        })?)
    }

    /// Asks all to end, as if each were the only one.
    pub fn end(&mut self) -> Test {
        for replica in &mut self.replicas {
            replica.webhook.process().signal(Signal::Terminate)?;
        }
        for mut replica in self.replicas.drain(..) {
            replica.webhook.process().wait(SOON)?;
        }
        Ok(())
    }
}
