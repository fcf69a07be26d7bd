# The trainer's image with TensorFlow for GPUs: the trainer's own image, and the libraries of CUDA 9.0 and cuDNN 7 that
# TF 1.9 was built for. NOT TESTED on a GPU. docker-compose.gpu.yml says how to build it.
ARG TRAINER_IMAGE=stoker-trainer
ARG CUDA_IMAGE=nvidia/cuda:9.0-cudnn7-runtime-ubuntu16.04

FROM ${CUDA_IMAGE} AS cuda

FROM ${TRAINER_IMAGE}
USER 0:0
RUN python -m ensurepip \
    && python -m pip uninstall --yes tensorflow \
    && python -m pip install --no-cache-dir --no-deps tensorflow-gpu==1.9.0 \
    && python -m pip uninstall --yes pip
COPY --from=cuda /usr/local/cuda-9.0/lib64/ /usr/local/cuda-9.0/lib64/
COPY --from=cuda /usr/lib/x86_64-linux-gnu/libcudnn.so.7* /usr/local/cuda-9.0/lib64/
ENV LD_LIBRARY_PATH=/usr/local/cuda-9.0/lib64:/usr/local/nvidia/lib64 NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
USER 1000:1000
