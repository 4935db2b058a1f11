package client

import "context"

// SetDefaultQuota sets how much of each resource, such as volumes or gigabytes,
// every project may have that has no limits of its own; -1 is without limit. What
// is not named stays as it is.
func (c *Client) SetDefaultQuota(ctx context.Context, limits map[string]int64) error {
	return c.put(ctx, "/v3/os-quota-class-sets/default", map[string]any{"quota_class_set": limits})
}
