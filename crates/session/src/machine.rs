//! The two machines, as one pure transition function.
//!
//! ```text
//!  sandbox   none ──Provision──▶ creating ──Created──▶ preparing ──Prepared──▶ ready
//!             ▲                      │                     │                     │
//!             │                      └───── StepFailed ────┴──▶ failed           │ Lost · Suspend
//!             │                                                  │ Provision     ▼
//!             └────────── (Cancelled) ───────────────────────────┴────────▶ suspended ──Provision──▶ creating
//!
//!  turn      idle ──Prompt──▶ queued ──Start──▶ running ⇄ waiting ──End──▶ idle | queued
//! ```
//!
//! An input that is not legal in a state changes nothing and says so: the driver asks
//! [`Machine::wants`] what to do next and never has to remember a mode of its own.

use protocol::event::StatusChange;
use protocol::status::{SandboxPhase, SessionStatus, TurnPhase};

/// Both machines of one session.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Machine {
    /// Where the sandbox is.
    pub sandbox: SandboxPhase,
    /// Where the turn is.
    pub turn: TurnPhase,
    /// Prompts that wait.
    pub waiting_prompts: u32,
}

/// What can happen to a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Input {
    /// A prompt was accepted.
    Prompt,
    /// The host was asked for a sandbox.
    Provision,
    /// The sandbox runs.
    Created,
    /// The workspace is there.
    Prepared,
    /// A step of the preparation failed.
    StepFailed,
    /// The preparation was stopped by the person.
    Cancelled,
    /// The sandbox died.
    Lost,
    /// The sandbox was taken down on purpose.
    Suspend,
    /// A turn began with the oldest waiting prompt.
    Start,
    /// The agent asks the person.
    Ask,
    /// The question was answered.
    Answer,
    /// The turn is over.
    End,
    /// A waiting prompt was given up, taken back, or handed over into the turn.
    Drop,
}

/// An input that makes no sense in this state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{input:?} is not possible while the sandbox is {:?} and the turn {:?}", machine.sandbox, machine.turn)]
pub struct Illegal {
    /// The state, unchanged.
    pub machine: Machine,
    /// The input.
    pub input: Input,
}

/// What the driver should do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wants {
    /// Nothing: wait for an input.
    Nothing,
    /// Make a sandbox.
    Provision,
    /// Start a turn with the oldest waiting prompt.
    StartTurn,
}

impl Machine {
    /// The state after an input.
    pub fn next(self, input: Input) -> Result<Self, Illegal> {
        use SandboxPhase as S;
        use TurnPhase as T;
        let Self { sandbox, turn, waiting_prompts } = self;
        let with = |sandbox, turn, waiting_prompts| Ok(Self { sandbox, turn, waiting_prompts });
        let rest = |waiting| if waiting > 0 { T::Queued } else { T::Idle };
        match (input, sandbox, turn) {
            (Input::Prompt, _, T::Idle | T::Queued) => with(sandbox, T::Queued, waiting_prompts + 1),
            (Input::Prompt, _, T::Running | T::Waiting) => with(sandbox, turn, waiting_prompts + 1),
            (Input::Provision, S::None | S::Suspended | S::Failed, T::Queued) => {
                with(S::Creating, turn, waiting_prompts)
            }
            (Input::Created, S::Creating, _) => with(S::Preparing, turn, waiting_prompts),
            (Input::Prepared, S::Preparing, _) => with(S::Ready, turn, waiting_prompts),
            (Input::StepFailed, S::Creating | S::Preparing, _) => with(S::Failed, turn, waiting_prompts),
            (Input::Cancelled, S::Creating | S::Preparing, _) => with(S::Suspended, turn, waiting_prompts),
            (Input::Lost, S::Ready, _) => with(S::Suspended, turn, waiting_prompts),
            (Input::Suspend, S::Ready | S::Failed | S::None | S::Suspended, T::Idle | T::Queued) => {
                with(S::Suspended, turn, waiting_prompts)
            }
            (Input::Start, S::Ready, T::Queued) if waiting_prompts > 0 => {
                with(sandbox, T::Running, waiting_prompts - 1)
            }
            (Input::Ask, _, T::Running) => with(sandbox, T::Waiting, waiting_prompts),
            (Input::Answer, _, T::Waiting) => with(sandbox, T::Running, waiting_prompts),
            (Input::End, _, T::Running | T::Waiting) => with(sandbox, rest(waiting_prompts), waiting_prompts),
            (Input::Drop, _, T::Queued) if waiting_prompts > 0 => {
                with(sandbox, rest(waiting_prompts - 1), waiting_prompts - 1)
            }
            (Input::Drop, _, T::Running | T::Waiting) if waiting_prompts > 0 => {
                with(sandbox, turn, waiting_prompts - 1)
            }
            _ => Err(Illegal { machine: self, input }),
        }
    }

    /// What to do next. A failed sandbox waits for the person: a new prompt tries again.
    #[must_use]
    pub fn wants(self) -> Wants {
        match (self.sandbox, self.turn) {
            (SandboxPhase::None | SandboxPhase::Suspended, TurnPhase::Queued) => Wants::Provision,
            (SandboxPhase::Ready, TurnPhase::Queued) => Wants::StartTurn,
            _ => Wants::Nothing,
        }
    }

    /// The word that people see.
    #[must_use]
    pub fn status(self) -> SessionStatus {
        SessionStatus::of(self.sandbox, self.turn)
    }

    /// The event that records this state.
    #[must_use]
    pub fn change(self, reason: Option<String>) -> StatusChange {
        StatusChange { sandbox: self.sandbox, turn: self.turn, status: self.status(), reason }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const INPUTS: [Input; 13] = [
        Input::Prompt,
        Input::Provision,
        Input::Created,
        Input::Prepared,
        Input::StepFailed,
        Input::Cancelled,
        Input::Lost,
        Input::Suspend,
        Input::Start,
        Input::Ask,
        Input::Answer,
        Input::End,
        Input::Drop,
    ];

    fn walk(inputs: &[Input]) -> Machine {
        inputs.iter().fold(Machine::default(), |machine, input| machine.next(*input).unwrap())
    }

    #[test]
    fn a_first_prompt_goes_all_the_way() {
        use Input as I;
        let path = [I::Prompt, I::Provision, I::Created, I::Prepared, I::Start, I::Ask, I::Answer, I::End];
        let wanted = [
            SessionStatus::Queued,
            SessionStatus::Preparing,
            SessionStatus::Preparing,
            SessionStatus::Queued,
            SessionStatus::Running,
            SessionStatus::Waiting,
            SessionStatus::Running,
            SessionStatus::Idle,
        ];
        for (length, status) in (1..=path.len()).zip(wanted) {
            assert_eq!(walk(&path[..length]).status(), status, "after {:?}", &path[..length]);
        }
    }

    #[test]
    fn a_failed_sandbox_waits_for_the_person_and_keeps_the_prompt() {
        let failed = walk(&[Input::Prompt, Input::Provision, Input::StepFailed]);
        assert_eq!(
            (failed.status(), failed.wants(), failed.waiting_prompts),
            (SessionStatus::Failed, Wants::Nothing, 1)
        );
        let again = failed.next(Input::Prompt).unwrap().next(Input::Provision).unwrap();
        assert_eq!((again.status(), again.waiting_prompts), (SessionStatus::Preparing, 2));
    }

    #[test]
    fn a_sandbox_lost_in_a_turn_does_not_end_the_turn() {
        let path =
            [Input::Prompt, Input::Provision, Input::Created, Input::Prepared, Input::Start, Input::Lost];
        let lost = walk(&path);
        assert_eq!(lost.status(), SessionStatus::Running);
        let ended = lost.next(Input::End).unwrap();
        assert_eq!(ended.status(), SessionStatus::Suspended);
    }

    proptest! {
        /// After any inputs: prompts are never lost or doubled, a turn never runs beside a waiting
        /// count that is wrong, and whatever waits has a way on.
        #[test]
        fn no_prompt_is_lost(choices in proptest::collection::vec(0usize..INPUTS.len(), 0..200)) {
            let mut machine = Machine::default();
            let (mut accepted, mut taken) = (0u32, 0u32);
            for input in choices.into_iter().map(|choice| INPUTS[choice]) {
                let before = machine;
                match machine.next(input) {
                    Ok(next) => machine = next,
                    Err(illegal) => {
                        prop_assert_eq!(illegal.machine, before);
                        continue;
                    }
                }
                match input {
                    Input::Prompt => accepted += 1,
                    Input::Start | Input::Drop => taken += 1,
                    _ => {}
                }
                prop_assert_eq!(machine.waiting_prompts, accepted - taken);
                prop_assert!(machine.waiting_prompts == 0 || machine.turn != TurnPhase::Idle);
                prop_assert!(machine.turn != TurnPhase::Queued || machine.waiting_prompts > 0);
                let stuck = machine.turn == TurnPhase::Queued
                    && machine.wants() == Wants::Nothing
                    && !matches!(machine.sandbox, SandboxPhase::Creating | SandboxPhase::Preparing | SandboxPhase::Failed);
                prop_assert!(!stuck, "{:?}", machine);
            }
        }

        /// From any reachable state a new prompt reaches a running turn.
        #[test]
        fn every_state_has_a_way_on(choices in proptest::collection::vec(0usize..INPUTS.len(), 0..100)) {
            let mut machine = Machine::default();
            for input in choices.into_iter().map(|choice| INPUTS[choice]) {
                machine = machine.next(input).unwrap_or(machine);
            }
            if matches!(machine.turn, TurnPhase::Running | TurnPhase::Waiting) {
                machine = machine.next(Input::End).unwrap();
            }
            machine = machine.next(Input::Prompt).unwrap();
            if matches!(machine.sandbox, SandboxPhase::None | SandboxPhase::Suspended | SandboxPhase::Failed) {
                machine = machine.next(Input::Provision).unwrap();
            }
            if machine.sandbox == SandboxPhase::Creating {
                machine = machine.next(Input::Created).unwrap();
            }
            if machine.sandbox == SandboxPhase::Preparing {
                machine = machine.next(Input::Prepared).unwrap();
            }
            prop_assert_eq!(machine.wants(), Wants::StartTurn);
            prop_assert_eq!(machine.next(Input::Start).unwrap().status(), SessionStatus::Running);
        }
    }
}
