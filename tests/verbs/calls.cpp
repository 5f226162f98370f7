// SPDX-License-Identifier: BSL-1.0
#include "../ipc/calls.hpp"
#include "../../include/cohort/ipc/peer.hpp"
#include "verb.hpp"

namespace cohort::test::calls_verbs {

using namespace questions;

namespace {

/// Answers what the parent asks.
int answer_calls(const std::vector<std::string>&) {
  asio::io_context context;
  auto parent = cohort::parent<calls_protocol>(context.get_executor());
  asio::co_spawn(context, parent.serve_calls(answers()), [](std::exception_ptr failure) {
    if (failure) std::rethrow_exception(failure);
  });
  context.run();
  return 0;
}

const verb answering_calls("answer-calls", &answer_calls);

}  // namespace
}  // namespace cohort::test::calls_verbs
