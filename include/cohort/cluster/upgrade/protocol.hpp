// SPDX-License-Identifier: BSL-1.0
/// Replacing the primary itself, while its listeners stay open: what the old one and the new one say to each other.
#pragma once

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "../../core/descriptor.hpp"
#include "../../ipc/handle.hpp"

namespace cohort {

namespace upgrade {

/// A listener, or a part of one that has very many sockets.
struct listener {
  std::string text;     ///< as the options name it
  std::string address;  ///< with the port that was chosen
  std::string file;     ///< of a unix socket
  bool inherited = false;
  std::vector<handle<descriptor>> sockets;
};

/// These were all of them: serve.
struct begin {
  std::uint32_t generation = 0;  ///< of the old one's workers
  std::uint32_t workers = 0;     ///< how many it was scaled to; 0 if it was not
};

/// All of the successor's workers serve: the old one may go. What stands here is the successor's from now on, the rest
/// it has no use for.
struct serving {
  std::vector<std::string> texts;
};

struct protocol {
  using to_child = std::variant<listener, begin>;
  using to_parent = serving;
};

/// Set in the environment of a successor.
inline constexpr const char* variable = "COHORT_UPGRADE";

}  // namespace upgrade
}  // namespace cohort
