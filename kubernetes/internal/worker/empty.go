package worker

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// atOnce is how many pods are ended at the same time.
const atOnce = 8

// empty ends all pods: their containers are killed, their networks given back.
func empty(ctx context.Context, socket string) error {
	conn, err := grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer conn.Close()
	runtime := cri.NewRuntimeServiceClient(conn)
	list, err := runtime.ListPodSandbox(ctx, &cri.ListPodSandboxRequest{})
	if err != nil {
		return fmt.Errorf("listing pods: %w", err)
	}
	var (
		mu     sync.Mutex
		failed error
		group  sync.WaitGroup
		turns  = make(chan struct{}, atOnce)
	)
	for _, p := range list.Items {
		group.Go(func() {
			turns <- struct{}{}
			defer func() { <-turns }()
			if err := end(ctx, runtime, p.Id); err != nil {
				mu.Lock()
				defer mu.Unlock()
				failed = errors.Join(failed, fmt.Errorf("pod %s/%s: %w", p.Metadata.GetNamespace(), p.Metadata.GetName(), err))
			}
		})
	}
	group.Wait()
	return failed
}

func end(ctx context.Context, runtime cri.RuntimeServiceClient, pod string) error {
	if _, err := runtime.StopPodSandbox(ctx, &cri.StopPodSandboxRequest{PodSandboxId: pod}); err != nil {
		return err
	}
	_, err := runtime.RemovePodSandbox(ctx, &cri.RemovePodSandboxRequest{PodSandboxId: pod})
	return err
}
