// expect: no reference members
#include <cohort/ipc/codec/codec.hpp>

struct job {
  int& number;
};

int main() {
  int number = 1;
  job value{number};
  cohort::byte_buffer out;
  cohort::encode(out, value);
}
