// expect: must take at least one byte each
#include <vector>

#include <cohort/ipc/codec/codec.hpp>

struct tick {};

int main() {
  static_cast<void>(cohort::decode<std::vector<tick>>("", 0));
}
