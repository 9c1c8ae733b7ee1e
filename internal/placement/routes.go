package placement

import "github.com/strata-cloud/strata/internal/rest"

// API is the placement API's table.
func (s *Service) API() *rest.API {
	v := &rest.Microversions{Type: "placement", Min: minVersion, Max: maxVersion}
	return &rest.API{Name: "placement", Prefix: "/placement", Family: rest.PlacementFaults(), Versions: v,
		Routes: append(s.providerRoutes(), s.otherRoutes()...)}
}

func (s *Service) providerRoutes() []rest.Route {
	const rp, one = "placement:resource_providers:", "/resource_providers/{uuid}"
	return []rest.Route{
		{Method: "GET", Path: "/resource_providers", Policy: rp + "list", Handle: s.listProviders},
		{Method: "POST", Path: "/resource_providers", Policy: rp + "create", Body: providerSchemas(true), Handle: s.createProvider},
		{Method: "GET", Path: one, Policy: rp + "show", Handle: s.showProvider},
		{Method: "PUT", Path: one, Policy: rp + "update", Body: providerSchemas(false), Handle: s.updateProvider},
		{Method: "DELETE", Path: one, Policy: rp + "delete", Handle: s.removeProvider},

		{Method: "GET", Path: one + "/inventories", Policy: rp + "inventories:list", Handle: s.listInventories},
		{Method: "POST", Path: one + "/inventories", Policy: rp + "inventories:create", Body: inventorySchema(`"total","resource_class"`), Handle: s.createInventory},
		{Method: "PUT", Path: one + "/inventories", Policy: rp + "inventories:update", Body: inventoriesSchema(), Handle: s.replaceInventories},
		{Method: "DELETE", Path: one + "/inventories", Policy: rp + "inventories:delete", Min: rest.V(1, 5), Handle: s.deleteInventories},
		{Method: "GET", Path: one + "/inventories/{class}", Policy: rp + "inventories:show", Handle: s.showInventory},
		{Method: "PUT", Path: one + "/inventories/{class}", Policy: rp + "inventories:update", Body: inventorySchema(`"total","resource_provider_generation"`), Handle: s.updateInventory},
		{Method: "DELETE", Path: one + "/inventories/{class}", Policy: rp + "inventories:delete", Handle: s.deleteInventory},

		{Method: "GET", Path: one + "/usages", Policy: rp + "usages", Handle: s.showUsages},
		{Method: "GET", Path: one + "/allocations", Policy: rp + "allocations:list", Handle: s.listProviderAllocations},
		{Method: "GET", Path: one + "/aggregates", Policy: rp + "aggregates:list", Min: rest.V(1, 1), Handle: s.listAggregates},
		{Method: "PUT", Path: one + "/aggregates", Policy: rp + "aggregates:update", Min: rest.V(1, 1), Body: aggregateSchemas(), Handle: s.replaceAggregates},
		{Method: "GET", Path: one + "/traits", Policy: rp + "traits:list", Min: rest.V(1, 6), Handle: s.listProviderTraits},
		{Method: "PUT", Path: one + "/traits", Policy: rp + "traits:update", Min: rest.V(1, 6), Body: traitsSchema(), Handle: s.replaceProviderTraits},
		{Method: "DELETE", Path: one + "/traits", Policy: rp + "traits:delete", Min: rest.V(1, 6), Handle: s.deleteProviderTraits},
	}
}

func (s *Service) otherRoutes() []rest.Route {
	const rc, tr = "placement:resource_classes:", "placement:traits:"
	return []rest.Route{
		{Method: "GET", Path: "/{$}", Handle: home},
		{Method: "GET", Path: "/resource_classes", Policy: rc + "list", Min: rest.V(1, 2), Handle: s.listClasses},
		{Method: "POST", Path: "/resource_classes", Policy: rc + "create", Min: rest.V(1, 2), Body: classSchema(), Handle: s.createClass},
		{Method: "GET", Path: "/resource_classes/{name}", Policy: rc + "show", Min: rest.V(1, 2), Handle: s.showClass},
		{Method: "PUT", Path: "/resource_classes/{name}", Policy: rc + "update", Min: rest.V(1, 2), Max: rest.V(1, 6), Body: classSchema(), Handle: s.renameClass},
		{Method: "PUT", Path: "/resource_classes/{name}", Policy: rc + "update", Min: rest.V(1, 7), Handle: s.ensureClass},
		{Method: "DELETE", Path: "/resource_classes/{name}", Policy: rc + "delete", Min: rest.V(1, 2), Handle: s.deleteClass},

		{Method: "GET", Path: "/traits", Policy: tr + "list", Min: rest.V(1, 6), Handle: s.listTraits},
		{Method: "GET", Path: "/traits/{name}", Policy: tr + "show", Min: rest.V(1, 6), Handle: s.showTrait},
		{Method: "PUT", Path: "/traits/{name}", Policy: tr + "update", Min: rest.V(1, 6), Handle: s.ensureTrait},
		{Method: "DELETE", Path: "/traits/{name}", Policy: tr + "delete", Min: rest.V(1, 6), Handle: s.deleteTrait},

		{Method: "POST", Path: "/allocations", Policy: "placement:allocations:manage", Min: rest.V(1, 13), Body: manyAllocationSchemas(), Handle: s.postAllocations},
		{Method: "GET", Path: "/allocations/{consumer}", Policy: "placement:allocations:list", Handle: s.showAllocations},
		{Method: "PUT", Path: "/allocations/{consumer}", Policy: "placement:allocations:update", Body: allocationSchemas(), Handle: s.putAllocations},
		{Method: "DELETE", Path: "/allocations/{consumer}", Policy: "placement:allocations:delete", Handle: s.deleteAllocations},

		{Method: "GET", Path: "/usages", Policy: "placement:usages", Min: rest.V(1, 9), Handle: s.totalUsages},
		{Method: "GET", Path: "/allocation_candidates", Policy: "placement:allocation_candidates:list", Min: rest.V(1, 10), Handle: s.listCandidates},
		{Method: "POST", Path: "/reshaper", Policy: "placement:reshaper:reshape", Min: rest.V(1, 30), Body: reshaperSchemas(), Handle: s.reshape},
	}
}
