//! What can go wrong between an operator and the API server, chosen per call.

use http::request::Parts;
use http::{Method, StatusCode};

use super::api::{Answer, decode, refuse};
use super::{Objects, World};

/// What becomes of a call that changes something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Cut {
    /// It never arrives.
    Before,
    /// It is carried out, and the answer is lost.
    After,
    /// It is refused: somebody else was faster.
    Conflict,
    /// It is carried out, and answered with a time-out.
    TimedOut,
    /// It arrives twice, as when something between repeats it. The second answer is the one that comes back.
    Twice,
    /// The operator dies before it is sent.
    DiesBefore,
    /// The operator dies before it hears the answer.
    DiesAfter,
    /// It is under way for so long that another operator takes over meanwhile.
    Parked,
    /// It goes well, and the operator's next look sees what was true a few seconds before.
    StaleNext,
}

/// All that a test perturbs a bootstrap with.
pub(crate) const CUTS: [Cut; 9] = [
    Cut::Before,
    Cut::After,
    Cut::Conflict,
    Cut::TimedOut,
    Cut::Twice,
    Cut::DiesBefore,
    Cut::DiesAfter,
    Cut::Parked,
    Cut::StaleNext,
];

/// How far back a stale look sees, in turns.
pub(crate) const STALE_TURNS_MAX: usize = 6;

/// What the service has to do with a call.
pub(super) enum Fate {
    /// Answer it.
    Answer(Answer),
    /// Never answer: whoever asked is dead.
    Dead,
    /// Answer it once the gate is open.
    Park,
}

fn failed(text: &str) -> Fate {
    Fate::Answer(refuse(StatusCode::INTERNAL_SERVER_ERROR, text))
}

/// What a call is, for the list of writes; none for one that changes nothing, and for an Event.
fn written(parts: &Parts) -> Option<String> {
    if parts.method == Method::GET {
        return None;
    }
    let path = decode(parts.uri.path());
    let rest = path.split_once("/namespaces/")?.1.split_once('/')?.1;
    if rest.starts_with("events") {
        return None;
    }
    // A call to an agent: its pod, and what it is told.
    let rest = match rest.split_once(":8500/proxy") {
        Some((pod, told)) => format!("{}{told}", pod.trim_start_matches("pods/")),
        None => rest.to_owned(),
    };
    Some(format!("{} {rest}", parts.method))
}

impl World {
    /// One call, and what becomes of it.
    pub(super) fn serve(&mut self, parts: &Parts, body: &[u8]) -> Fate {
        let Some(written) = written(parts) else {
            return Fate::Answer(self.carry_out(parts, body));
        };
        match self.take_cut() {
            Some(Cut::Parked) => {
                self.parked = true;
                return Fate::Park;
            }
            Some(Cut::DiesBefore) => {
                self.died = true;
                return Fate::Dead;
            }
            Some(Cut::Before) => return failed("cut before"),
            Some(Cut::Conflict) => {
                return Fate::Answer(refuse(StatusCode::CONFLICT, "Conflict"));
            }
            Some(cut) => {
                self.writes.push(written.clone());
                let answer = self.carry_out(parts, body);
                return self.after(cut, answer, written, parts, body);
            }
            None => {}
        }
        self.writes.push(written);
        Fate::Answer(self.carry_out(parts, body))
    }

    /// What is left of a call that was parked.
    pub(super) fn resume(&mut self, parts: &Parts, body: &[u8]) -> Answer {
        self.writes.extend(written(parts));
        self.carry_out(parts, body)
    }

    fn after(
        &mut self,
        cut: Cut,
        answer: Answer,
        written: String,
        parts: &Parts,
        body: &[u8],
    ) -> Fate {
        match cut {
            Cut::After => failed("cut after"),
            Cut::TimedOut => Fate::Answer(refuse(StatusCode::GATEWAY_TIMEOUT, "Timeout")),
            Cut::Twice => {
                self.writes.push(written);
                Fate::Answer(self.carry_out(parts, body))
            }
            Cut::DiesAfter => {
                self.died = true;
                Fate::Dead
            }
            Cut::StaleNext => {
                self.stale_next = STALE_TURNS_MAX;
                Fate::Answer(answer)
            }
            Cut::Before | Cut::Conflict | Cut::DiesBefore | Cut::Parked => Fate::Answer(answer),
        }
    }

    fn take_cut(&mut self) -> Option<Cut> {
        match &mut self.cut {
            Some((0, cut)) => {
                let cut = *cut;
                self.cut = None;
                Some(cut)
            }
            Some((left, _)) => {
                *left -= 1;
                None
            }
            None => None,
        }
    }

    /// What reads show: now, or a while ago.
    pub(super) fn seen(&self) -> &Objects {
        match self.stale {
            0 => &self.objects,
            back => {
                let at = self.history.len().saturating_sub(back);
                self.history.get(at).unwrap_or(&self.objects)
            }
        }
    }

    /// From now on looks see what is.
    pub(crate) fn see_all(&mut self) {
        (self.stale, self.stale_next) = (0, 0);
    }

    /// Keeps what there is now for looks that are stale later.
    pub(super) fn remember(&mut self) {
        self.history.push_back(self.objects.clone());
        if self.history.len() > STALE_TURNS_MAX {
            self.history.pop_front();
        }
    }
}
