#include "base/grpc_channel.h"

#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <future>
#include <memory>

namespace tandem {
namespace {

struct Call {
  std::unique_ptr<grpc::GenericStub> stub;
  grpc::ClientContext context;
  grpc::Slice nothing;
  grpc::ByteBuffer request{&nothing, 1}, response;
};

// The first call takes the last channel of the process with it, on the thread that runs callbacks;
// the second one needs that thread.
TEST(GrpcChannel, ACallbackMayDropTheLastChannel) {
  for (int i = 0; i < 2; ++i) {
    auto call = std::make_shared<Call>();
    call->stub = std::make_unique<grpc::GenericStub>(MakeChannel("127.0.0.1:1", {}));
    call->context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(20));
    std::promise<grpc::StatusCode> code;
    call->stub->UnaryCall(&call->context, "/none/None", {}, &call->request, &call->response,
                          [&code, call](const grpc::Status& status) mutable {
                            call.reset();
                            code.set_value(status.error_code());
                          });
    call.reset();
    EXPECT_EQ(code.get_future().get(), grpc::StatusCode::UNAVAILABLE);
  }
}

}  // namespace
}  // namespace tandem
