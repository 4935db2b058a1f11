package main

import (
	"context"
	"net/http"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack/blockstorage/v3/services"
	"github.com/gophercloud/gophercloud/v2/openstack/blockstorage/v3/volumes"
	"github.com/gophercloud/gophercloud/v2/openstack/blockstorage/v3/volumetypes"
)

func listServices(ctx context.Context, c *gophercloud.ServiceClient, _ *memory) (any, error) {
	pages, err := services.List(c, nil).AllPages(ctx)
	if err != nil {
		return nil, err
	}
	return services.ExtractServices(pages)
}

// listClusters asks for what the library has no name for.
func listClusters(query string) call {
	return func(ctx context.Context, c *gophercloud.ServiceClient, _ *memory) (any, error) {
		var body struct {
			Clusters []map[string]any `json:"clusters"`
		}
		resp, err := c.Get(ctx, c.ServiceURL("clusters", "detail")+query, &body, nil) //nolint:bodyclose // the library reads it to the end
		return body.Clusters, answered(resp, err)
	}
}

func failoverCluster(target string) call {
	return func(ctx context.Context, c *gophercloud.ServiceClient, _ *memory) (any, error) {
		body := map[string]string{"cluster": clusterName, "backend_id": target}
		resp, err := c.Put(ctx, c.ServiceURL("os-services", "failover"), body, nil, &gophercloud.RequestOpts{OkCodes: []int{http.StatusAccepted}})
		if err == nil {
			err = resp.Body.Close()
		}
		return nil, err
	}
}

// answered returns what there is to say of an answer.
func answered(resp *http.Response, err error) error {
	_, _, err = gophercloud.ParseResponse(resp, err)
	return err
}

func createType(name string) call {
	return func(ctx context.Context, c *gophercloud.ServiceClient, _ *memory) (any, error) {
		return volumetypes.Create(ctx, c, volumetypes.CreateOpts{Name: name}).Extract()
	}
}

func createVolume(name, volumeType string) call {
	return func(ctx context.Context, c *gophercloud.ServiceClient, _ *memory) (any, error) {
		return volumes.Create(ctx, c, volumes.CreateOpts{Name: name, Size: 1, VolumeType: volumeType}, nil).Extract()
	}
}

func listVolumes(ctx context.Context, c *gophercloud.ServiceClient, _ *memory) (any, error) {
	pages, err := volumes.List(c, volumes.ListOpts{Sort: "name:asc", Limit: 2}).AllPages(ctx)
	if err != nil {
		return nil, err
	}
	var rows []map[string]any // the library's own type does not tell null from nothing
	err = volumes.ExtractVolumesInto(pages, &rows)
	return rows, err
}

func getVolume(name string) call {
	return func(ctx context.Context, c *gophercloud.ServiceClient, known *memory) (any, error) {
		return volumes.Get(ctx, c, known.expand("{"+name+"}")).Extract()
	}
}

func extendVolume(name string, size int) call {
	return func(ctx context.Context, c *gophercloud.ServiceClient, known *memory) (any, error) {
		return nil, volumes.ExtendSize(ctx, c, known.expand("{"+name+"}"), volumes.ExtendSizeOpts{NewSize: size}).ExtractErr()
	}
}

func deleteVolume(name string) call {
	return func(ctx context.Context, c *gophercloud.ServiceClient, known *memory) (any, error) {
		return nil, volumes.Delete(ctx, c, known.expand("{"+name+"}"), nil).ExtractErr()
	}
}
