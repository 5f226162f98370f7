// expect: make the base a member
#include <cohort/ipc/codec/codec.hpp>

struct base {
  int id;
};
struct job : base {
  int number;
};

int main() {
  cohort::byte_buffer out;
  cohort::encode(out, job());
}
