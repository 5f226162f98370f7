// SPDX-License-Identifier: BSL-1.0
/// What the processes of a cluster say to each other in tests of messages, agents and schedules: the test is the
/// primary, and tests/verbs/town.cpp is the workers and agents.
#pragma once

#include <cstdint>
#include <string>
#include <variant>

#include "../../include/cohort/messaging/messenger.hpp"

namespace cohort::test::town {

/// Everybody takes note of it.
struct news {
  std::uint32_t number = 0;
};

/// Send news, `count` of them from `first` on, one at a time, to `to`: `everyone`, `workers`, `random`, `primary`,
/// `slot N`, `pid N`, `agent NAME`; and tell the primary what became of the last, in a `report`. Done when they are.
struct order {
  std::string to;
  std::uint32_t first = 0;
  std::uint32_t count = 1;
  bool directly = false;
};

/// Tell the primary what you have heard, in a `report`: the numbers of the news, with `from N` where a worker has sent
/// them, and agents that have gone and come.
struct question {};

/// `throw`: throw in the listener. `sleep`: report `asleep` to the primary and never end with it, but take note of
/// being `cancelled`. `fail`, `quit`: drain with status 1, or 78.
struct mischief {
  std::string what;
};

/// Nobody but the primary listens to it.
struct report {
  std::string text;
  std::uint32_t delivered = 0;
  std::uint32_t failures = 0;
};

/// Nobody listens to it, and those who know of it do not mind.
struct rumour {};

using messages = std::variant<news, order, question, mischief, report>;
using talk = messenger<messages>;

}  // namespace cohort::test::town
