// SPDX-License-Identifier: BSL-1.0
/// What the processes of a cluster send each other by way of a messenger, and what became of it: plain data.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include <sys/types.h>

#include "../core/config.hpp"

namespace cohort {

/// A process of a cluster, as the others know it.
struct member {
  std::uint32_t slot = 0;  ///< a worker's, from 1 on; 0 for the primary and for agents
  std::int32_t pid = 0;
  std::string agent;  ///< an agent's name

  bool operator==(const member&) const = default;
};

/// `worker 3 (pid 4711)`, `agent "cache" (pid 4712)`, `primary (pid 4710)`; without a pid where there is no process.
std::string to_string(const member& who);

/// Who is to get a message: one process, or several.
class recipient {
 public:
  enum class kind : std::uint8_t { everyone, workers, any_worker, slot, process, agent, primary };

  recipient() = default;

  /// Who sent a message, to answer.
  recipient(const member& who)  // NOLINT(google-explicit-constructor)
      : recipient(kind::process, who.pid) {}

  /// All workers and agents, the sender too if it is one of them. Workers that drain still answer connections, and are
  /// among them.
  static recipient everyone() { return {kind::everyone}; }
  /// All workers, the sender too if it is one of them, and those that drain.
  static recipient workers() { return {kind::workers}; }
  /// A worker that the primary picks at random, never one that drains; it may be the sender.
  static recipient any_worker() { return {kind::any_worker}; }
  /// The worker that serves in this slot.
  static recipient slot(unsigned number) { return {kind::slot, number}; }
  /// The worker, the agent or the primary with this pid.
  static recipient process(pid_t pid) { return {kind::process, pid}; }
  static recipient agent(std::string name) { return {kind::agent, 0, std::move(name)}; }
  static recipient primary() { return {kind::primary}; }

  kind what() const noexcept { return what_; }
  std::int64_t number() const noexcept { return number_; }
  const std::string& name() const noexcept { return name_; }
  bool is_one() const noexcept { return what_ != kind::everyone && what_ != kind::workers; }

 private:
  recipient(kind what, std::int64_t number = 0, std::string name = {})
      : what_(what), number_(number), name_(std::move(name)) {}

  kind what_ = kind::everyone;
  std::int64_t number_ = 0;
  std::string name_;
};

/// Why a process has not got a message.
enum class undelivered : std::uint8_t {
  gone,       ///< there is no such process, or it ended before it answered; it may have begun with the message
  not_ready,  ///< it is starting
  unheard,    ///< nothing there listens to messages of this type
  failed,     ///< one of its listeners has thrown; `what`: the text
  dropped,    ///< it was slow, and a later message has taken the place of this one
  slow,       ///< it was slow, and gets no messages any more
};

/// What became of a message. Nothing is lost without being said here.
struct receipt {
  /// A process that has not handled the message, and why; `what` is the text of an exception, if there was one.
  struct failure {
    member who;
    undelivered why = undelivered::gone;
    std::string what;
  };

  std::uint32_t delivered = 0;    ///< processes in which every listener has ended well
  std::vector<failure> failures;  ///< the others that it was meant for

  std::size_t recipients() const noexcept { return delivered + failures.size(); }
  /// Whether somebody has got it, and nobody has not.
  bool complete() const noexcept { return delivered != 0 && failures.empty(); }
};

/// `gone`, `failed: no such key`.
std::string to_string(const receipt::failure& failure);

/// `delivered to 2 of 4; worker 3 (pid 4711): gone; worker 4 (pid 4712): failed: no such key`.
std::string to_string(const receipt& what);

/// A worker hears of an agent that has ended; `agent` names it. Listen to it with messenger::on().
struct agent_gone {
  std::string agent;
};

/// A worker hears that an agent is there again.
struct agent_back {
  std::string agent;
};

/// A call, in both directions: deliver this, and say what became of it, in a receipt. `body` is the encoding of a
/// message of the type with this fingerprint.
struct routed_message {
  std::uint8_t to = 0;  ///< recipient::kind
  std::int64_t number = 0;
  std::string name;
  member from;
  std::uint64_t type = 0;
  std::string body;
};

namespace detail {

recipient address_of(const routed_message& what);

receipt not_delivered(member who, undelivered why, std::string what = {});

}  // namespace detail
}  // namespace cohort

#ifndef COHORT_SEPARATE_COMPILATION
#include "delivery.ipp"
#endif
