// SPDX-License-Identifier: BSL-1.0
// What the processes of a fleet say to each other. A fleet is several clusters, each on a machine of its own, which
// reach each other through one Redis.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <unordered_set>
#include <utility>
#include <variant>
#include <vector>

#include <cohort/cohort.hpp>

constexpr const char* bridge_name = "bridge";         // the agent of each cluster that speaks with Redis
constexpr std::chrono::milliseconds patience{5'000};  // with Redis, until the receipt says what is known
constexpr std::size_t remembered = 65'536;            // ids, in each process

enum class whom : std::uint8_t { workers, any_worker, everyone, slot, agent };

struct parcel {
  std::string id;    // of this message and no other, however often it comes
  std::string from;  // a cluster
  whom to = whom::workers;
  std::uint32_t slot = 0;
  std::string agent;
  std::string text;
};

/// A worker asks its bridge: send this to these clusters.
struct request {
  std::vector<std::string> clusters;
  bool keep = true;  // by a stream, which keeps it until it has arrived; if not, by Pub/Sub
  parcel what;
};

/// What is known of a message for a cluster.
enum class known : std::uint8_t {
  stored,     // Redis has it, on its disk with appendfsync always; the cluster hears it when it can
  published,  // Redis has told the bridges that listened: it may have arrived
  refused,    // Redis has not got it: the inbox of the cluster is full
  unsent,     // Redis has not got it: it was not there
  unknown,    // Redis was asked, and has not answered: it may have it
};
constexpr std::string_view known_names[] = {"stored", "published", "refused", "unsent", "unknown"};

struct outcome {
  struct part {
    std::string cluster;
    known state = known::unknown;
  };
  std::string id;
  std::vector<part> parts;
};

using bus = cohort::messenger<std::variant<request, outcome, parcel>>;

inline cohort::recipient address_of(const parcel& what) {
  switch (what.to) {
    case whom::any_worker: return cohort::recipient::any_worker();
    case whom::everyone: return cohort::recipient::everyone();
    case whom::slot: return cohort::recipient::slot(what.slot);
    case whom::agent: return cohort::recipient::agent(what.agent);
    case whom::workers: break;
  }
  return cohort::recipient::workers();
}

/// The last ids that this process has heard.
class memory {
 public:
  bool knows(const std::string& id) const { return ids_.contains(id); }

  /// False if it is known already.
  bool add(const std::string& id) {
    if (!ids_.insert(id).second) return false;
    order_.push_back(id);
    if (order_.size() > remembered) {
      ids_.erase(order_.front());
      order_.pop_front();
    }
    return true;
  }

 private:
  std::unordered_set<std::string> ids_;
  std::deque<std::string> order_;
};
