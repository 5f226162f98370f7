// expect: use std::vector or std::array
#include <span>

#include <cohort/ipc/codec/codec.hpp>

struct job {
  std::span<int> numbers;
};

int main() {
  cohort::byte_buffer out;
  cohort::encode(out, job());
}
